"""What lies in the folder of one checkpoint, read without the program that wrote it, on any devices."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from convattn.training.checkpoint_folder import is_unsigned, warn_of_unsigned
from convattn.training.manifest import verify

_DAMAGE = (ValueError, KeyError, OSError)
"""What Orbax and TensorStore raise on broken and missing files."""


def _damaged(folder: Path, reason: str) -> ValueError:
  return ValueError(f"the checkpoint {folder} is damaged ({reason}); name another, such as the one before it.")


def _reason(error: Exception) -> str:
  return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def check_files(folder: Path) -> None:
  """Compares the files of a checkpoint with its manifest; of a version without manifests one line on stderr says so.

  Raises:
    ValueError: it does not verify; one line.
  """
  if is_unsigned(folder):
    warn_of_unsigned(folder)
    return
  problem = verify(folder)
  if problem is not None:
    raise _damaged(folder, problem)


def read_description(folder: Path) -> dict[str, Any]:
  """What lies beside the state: {"model", "experiment"} and the task's metadata.

  Raises:
    ValueError: it is damaged; one line.
  """
  try:
    description = ocp.JsonCheckpointHandler().restore(folder.absolute() / "description", args=ocp.args.JsonRestore())
    if not (isinstance(description, dict) and {"model", "experiment"} <= set(description)):
      raise ValueError("its description has no model or no experiment")
  except _DAMAGE as error:
    raise _damaged(folder, _reason(error)) from error
  return description


def read_weights(folder: Path) -> dict[str, Any]:
  """{"step", "ema", "params", "model_state"} on the default device; the latter two are {} where there are averages.

  Raises:
    ValueError: they are damaged; one line.
  """
  path, handler = folder.absolute() / "state", ocp.PyTreeCheckpointHandler()
  try:
    names = _readable_parts(path)
    saved = handler.metadata(path).tree
    wanted = {name: saved[name] for name in names}
    # As NumPy: the shardings that were saved speak of devices that may not be here.
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    state = handler.restore(path, args=ocp.args.PyTreeRestore(wanted, restore_args=as_numpy, partial_restore=True))
  except _DAMAGE as error:
    raise _damaged(folder, _reason(error)) from error
  return {"ema": {}, "params": {}, "model_state": {}, **jax.tree.map(jnp.asarray, state)}


def _readable_parts(path: Path) -> tuple[str, ...]:
  """The parts of the state to restore, after the bytes of each of their arrays have been read once.

  Orbax reads all arrays at once; when one fails, those on their way print tracebacks from other threads.
  """
  store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{path}/"}).result()
  keys = [key.decode() for key in store.list().result()]
  averaged = any(key.startswith("ema.") for key in keys)
  names = ("step", "ema") if averaged else ("step", "params", "model_state")
  wanted = [key for key in keys if re.split(r"[./]", key)[0] in names or key.endswith((".zarray", "zarr.json"))]
  for key, reading in [(key, store.read(key)) for key in wanted]:
    if not reading.result().value:  # so TensorStore gives what lay in a file that is gone
      raise ValueError(f"the bytes of {key} are missing")
  return names
