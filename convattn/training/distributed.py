"""Several processes, often on several hosts, that train one model together: who they are, from the environment."""

import dataclasses
import importlib.util
import os
from collections.abc import Mapping
from typing import Any

import jax

from convattn.errors import UserError
from convattn.fields import whole_number

TIMEOUTS = {
  "CONVATTN_INITIALIZATION_TIMEOUT": 300,
  "CONVATTN_HEARTBEAT_TIMEOUT": 60,
  "CONVATTN_SHUTDOWN_TIMEOUT": 60,
}
"""Seconds, for environment variables that are not set: until all processes must have met; after which a process that is
not heard of counts as dead, which ends the others with an error; that one which ends waits for the others."""

ALONE = "set JAX_NUM_PROCESSES=1 for a process that trains alone"
_RECIPES = "see docs/launch"


def is_main() -> bool:
  """Whether this process is the one that writes files and prints."""
  return jax.process_index() == 0


@dataclasses.dataclass(frozen=True)
class Launch:
  """How this process finds the others.

  Attributes:
    method: "slurm", "ompi" or "k8s", which `jax.distributed` asks for all that is None here; "explicit".
    coordinator_address: "host:port" of process 0.
    num_processes: of all hosts.
    process_id: from 0.
  """

  method: str
  coordinator_address: str | None = None
  num_processes: int | None = None
  process_id: int | None = None


def find_launch(environment: Mapping[str, str]) -> Launch | None:
  """What the environment says; None for a process that trains alone.

  Variables of JAX's own come first: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. With the first of
  them, the launcher's may stand in for the other two: OMPI_COMM_WORLD_SIZE and _RANK, SLURM_NTASKS and SLURM_PROCID,
  JOB_COMPLETION_INDEX (which comes without a number of processes). Without it, `jax.distributed` finds the address
  itself under Slurm (`srun`), Open MPI (`mpirun` up to version 4) and in an indexed Job of Kubernetes, where that
  takes the package `kubernetes`.

  Raises:
    UserError: a number that is none, numbers that contradict each other, or one that is missing.
  """
  address = environment.get("JAX_COORDINATOR_ADDRESS")
  given_size, given_rank = _number(environment, "JAX_NUM_PROCESSES", 1), _number(environment, "JAX_PROCESS_ID")
  if given_size == 1:
    _check_rank("JAX_PROCESS_ID", given_rank, 1)
    return None
  launcher, size, rank = _launcher(environment)
  if given_size is not None and size not in (None, 1) and size != given_size:
    raise UserError(f"JAX_NUM_PROCESSES is {given_size}, but {launcher} says {size}; unset one of them.")
  if address is None:
    if given_size is not None or given_rank is not None:
      raise UserError(
        "JAX_NUM_PROCESSES and JAX_PROCESS_ID need JAX_COORDINATOR_ADDRESS, the host:port of process 0; set it, or "
        "unset them."
      )
    return _found_by_jax(environment, launcher, size)
  if not address.rpartition(":")[0] or not address.rpartition(":")[2].isdecimal():
    raise UserError(f"JAX_COORDINATOR_ADDRESS must be host:port of process 0, got {address!r}.")
  size, rank = given_size if given_size is not None else size, given_rank if given_rank is not None else rank
  for name, value in (("JAX_NUM_PROCESSES", size), ("JAX_PROCESS_ID", rank)):
    if value is None:
      raise UserError(f"JAX_COORDINATOR_ADDRESS is set, but {name} is not; set it too, or {ALONE}.")
  _check_rank("JAX_PROCESS_ID", rank, size)
  return Launch("explicit", address, size, rank) if size != 1 else None


def _launcher(environment: Mapping[str, str]) -> tuple[str, int | None, int | None]:
  """(the variable that says how many processes there are, its number, this process's number)."""
  # Open MPI first: within a Slurm allocation its processes inherit the variables of the script that called it.
  if "OMPI_COMM_WORLD_SIZE" in environment:
    size = _number(environment, "OMPI_COMM_WORLD_SIZE", 1)
    return "OMPI_COMM_WORLD_SIZE", size, _number(environment, "OMPI_COMM_WORLD_RANK")
  if "SLURM_JOB_ID" in environment:
    return "SLURM_NTASKS", _number(environment, "SLURM_NTASKS", 1), _number(environment, "SLURM_PROCID")
  return "JOB_COMPLETION_INDEX", None, _number(environment, "JOB_COMPLETION_INDEX")


def _found_by_jax(environment: Mapping[str, str], launcher: str, size: int | None) -> Launch | None:
  if launcher == "JOB_COMPLETION_INDEX":
    if launcher not in environment:
      return None
    if importlib.util.find_spec("kubernetes") is None:
      raise UserError(
        "JOB_COMPLETION_INDEX says that this is one pod of an indexed Job, but not of how many; set "
        f"JAX_COORDINATOR_ADDRESS and JAX_NUM_PROCESSES ({_RECIPES}), or {ALONE}."
      )
    return Launch("k8s")
  if size in (None, 1):
    return None
  if launcher == "OMPI_COMM_WORLD_SIZE":
    if "OMPI_MCA_orte_hnp_uri" not in environment:
      raise UserError(
        f"OMPI_COMM_WORLD_SIZE is {size}, but this Open MPI does not say where process 0 is; set "
        f"JAX_COORDINATOR_ADDRESS to its host:port ({_RECIPES}), or {ALONE}."
      )
    return Launch("ompi")
  if not {"SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= environment.keys():
    raise UserError(
      f"SLURM_NTASKS is {size}, but this process was not started by srun; start it with srun ({_RECIPES}), or {ALONE}."
    )
  return Launch("slurm")


def initialize(environment: Mapping[str, str] | None = None) -> bool:
  """Joins the other processes if the environment tells of some; returns whether it did.

  To be called before anything touches a device. A process that dies ends all the others with an error, after
  CONVATTN_HEARTBEAT_TIMEOUT seconds at the latest (see `TIMEOUTS`).

  Raises:
    UserError: see `find_launch`; or the others did not come in time.
  """
  environment = os.environ if environment is None else environment
  launch = find_launch(environment)
  if launch is None:
    return False
  limits = {name: _number(environment, name, 1) or default for name, default in TIMEOUTS.items()}
  arguments: dict[str, Any] = {
    "initialization_timeout": limits["CONVATTN_INITIALIZATION_TIMEOUT"],
    "heartbeat_timeout_seconds": limits["CONVATTN_HEARTBEAT_TIMEOUT"],
    "shutdown_timeout_seconds": limits["CONVATTN_SHUTDOWN_TIMEOUT"],
  }
  if launch.method == "explicit":
    # All is known, and jax would make only one GPU of each process visible where it finds a launcher as well.
    arguments["cluster_detection_method"] = "deactivate"
    arguments["coordinator_address"] = launch.coordinator_address
    arguments["num_processes"], arguments["process_id"] = launch.num_processes, launch.process_id
  else:
    arguments["cluster_detection_method"] = launch.method
  try:
    jax.distributed.initialize(**arguments)
  except jax.errors.JaxRuntimeError as error:
    if "DEADLINE_EXCEEDED" not in str(error):
      raise
    seconds = arguments["initialization_timeout"]
    raise UserError(
      f"the processes did not all meet at {launch.coordinator_address or 'process 0'} within {seconds} seconds; start "
      f"all of them, or set CONVATTN_INITIALIZATION_TIMEOUT to more seconds."
    ) from error
  return True


def _number(environment: Mapping[str, str], name: str, lowest: int = 0) -> int | None:
  text = environment.get(name)
  if text is None:
    return None
  try:
    number = whole_number(text.strip())
  except ValueError:
    number = None
  if number is None or number < lowest:
    raise UserError(f"{name} must be a whole number of at least {lowest}, got {text!r}.")
  return number


def _check_rank(name: str, rank: int | None, size: int | None) -> None:
  if rank is not None and size is not None and rank >= size:
    raise UserError(f"{name} must be below the number of processes, {size}, got {rank}.")
