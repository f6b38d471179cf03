"""What the environment of each launcher makes of a process, without starting one."""

import jax
import pytest

from convattn.errors import UserError
from convattn.training import distributed
from convattn.training.distributed import Launch, find_launch

SLURM = {
  "SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "n[1-2]",
}  # fmt: skip
OMPI = {
  "OMPI_COMM_WORLD_SIZE": "2",
  "OMPI_COMM_WORLD_RANK": "1",
  "OMPI_COMM_WORLD_LOCAL_RANK": "1",
  "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}
ADDRESS = {"JAX_COORDINATOR_ADDRESS": "host:1234"}


def without(environment, name):
  return {key: value for key, value in environment.items() if key != name}


@pytest.mark.parametrize(
  "environment, launch",
  [
    ({}, None),
    ({"JAX_NUM_PROCESSES": "1"}, None),
    ({"JAX_NUM_PROCESSES": "1", **SLURM, **OMPI, **ADDRESS}, None),
    ({**ADDRESS, "JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "2"}, Launch("explicit", "host:1234", 3, 2)),
    ({**ADDRESS, "JAX_NUM_PROCESSES": "3", "JOB_COMPLETION_INDEX": "0"}, Launch("explicit", "host:1234", 3, 0)),
    ({**ADDRESS, **SLURM}, Launch("explicit", "host:1234", 4, 3)),
    ({**ADDRESS, **without(OMPI, "OMPI_MCA_orte_hnp_uri")}, Launch("explicit", "host:1234", 2, 1)),
    (SLURM, Launch("slurm")),
    ({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
    ({"SLURM_JOB_ID": "77"}, None),  # an allocation without tasks
    (OMPI, Launch("ompi")),
    ({**OMPI, "OMPI_COMM_WORLD_SIZE": "1"}, None),
    ({**without(SLURM, "SLURM_STEP_NODELIST"), **OMPI}, Launch("ompi")),  # mpirun in a Slurm allocation
  ],
)
def test_the_environment_says_how_a_process_finds_the_others(environment, launch):
  assert find_launch(environment) == launch


@pytest.mark.parametrize(
  "environment, message",
  [
    ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES must be a whole number of at least 1, got 'two'."),
    ({"JAX_NUM_PROCESSES": "\u0662"}, "JAX_NUM_PROCESSES must be a whole number of at least 1, got '\u0662'."),
    ({"JAX_NUM_PROCESSES": "0"}, "at least 1, got '0'."),
    ({"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "1"}, "below the number of processes, 1, got 1."),
    ({**ADDRESS, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "below the number of processes, 2, got 2."),
    ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}, "need JAX_COORDINATOR_ADDRESS"),
    ({**SLURM, "JAX_PROCESS_ID": "1"}, "need JAX_COORDINATOR_ADDRESS"),
    ({"JAX_COORDINATOR_ADDRESS": "host"}, "must be host:port of process 0, got 'host'."),
    ({**ADDRESS, "JAX_PROCESS_ID": "1"}, "but JAX_NUM_PROCESSES is not; set it too"),
    ({**ADDRESS, "JAX_NUM_PROCESSES": "2"}, "but JAX_PROCESS_ID is not; set it too"),
    ({**ADDRESS, **SLURM, "JAX_NUM_PROCESSES": "2"}, "JAX_NUM_PROCESSES is 2, but SLURM_NTASKS says 4"),
    (without(SLURM, "SLURM_STEP_NODELIST"), "SLURM_NTASKS is 4, but this process was not started by srun"),
    (without(OMPI, "OMPI_MCA_orte_hnp_uri"), "this Open MPI does not say where process 0 is; set JAX_COORDINATOR"),
    ({"JOB_COMPLETION_INDEX": "0"}, "one pod of an indexed Job, but not of how many; set JAX_COORDINATOR_ADDRESS and"),
  ],
)
def test_what_contradicts_itself_or_is_missing_is_one_line(environment, message, monkeypatch):
  monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UserError) as raised:
    find_launch(environment)
  assert message in str(raised.value)
  assert len(str(raised.value).splitlines()) == 1


def test_an_indexed_job_is_asked_by_the_package_where_it_is_installed(monkeypatch):
  monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: name)
  assert find_launch({"JOB_COMPLETION_INDEX": "1"}) == Launch("k8s")


@pytest.fixture
def started(monkeypatch):
  """The arguments with which jax.distributed was started."""
  calls = []
  monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: calls.append(arguments))
  return calls


def test_one_process_alone_starts_nothing(started):
  assert not distributed.initialize({})
  assert not distributed.initialize({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"})
  assert started == []


def test_what_is_known_is_passed_on_with_bounds_on_every_wait(started):
  environment = {**ADDRESS, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0", "CONVATTN_HEARTBEAT_TIMEOUT": "7"}
  assert distributed.initialize(environment)
  assert distributed.initialize(SLURM)
  bounds = {"initialization_timeout": 300, "shutdown_timeout_seconds": 60}
  explicit = {"coordinator_address": "host:1234", "num_processes": 2, "process_id": 0}
  assert started == [
    {**bounds, **explicit, "heartbeat_timeout_seconds": 7, "cluster_detection_method": "deactivate"},
    {**bounds, "heartbeat_timeout_seconds": 60, "cluster_detection_method": "slurm"},
  ]


def _detected(environment, monkeypatch):
  """What jax itself reads from the environment of one of its clusters: (address, size, rank)."""
  from jax._src import clusters

  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  method = find_launch(environment).method
  found = clusters.ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, method, 1)
  return found[:3]


def test_jax_finds_what_its_detection_is_asked_for(monkeypatch):
  with monkeypatch.context() as patch:
    address, size, rank = _detected(SLURM, patch)
    assert (address.partition(":")[0], size, rank) == ("n1", 4, 3)
  address, size, rank = _detected(OMPI, monkeypatch)
  assert (address.partition(":")[0], size, rank) == ("10.96.0.1", 2, 1)
