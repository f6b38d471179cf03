"""Reproducible kernels on a GPU: a flag that XLA reads once, when its backend starts."""

import os

# jax has no public way to ask this without starting a backend; jax.distributed.initialize asks the same function.
from jax._src.xla_bridge import backends_are_initialized

_NAME = "--xla_gpu_deterministic_ops"
FLAG = f"{_NAME}=true"


def request_deterministic_kernels() -> None:
  """Adds XLA's flag for reproducible GPU kernels to XLA_FLAGS. Call it before anything touches a device.

  Raises:
    RuntimeError: the backend has already started without the flag.
  """
  flags = os.environ.get("XLA_FLAGS", "").split()
  values = [value for name, _, value in (flag.partition("=") for flag in flags) if name == _NAME]
  if values and values[-1] in ("", "1", "true", "True"):  # XLA's spellings; of several flags the last one counts
    return
  if backends_are_initialized():
    raise RuntimeError(
      f"compute.deterministic needs XLA_FLAGS={FLAG} before jax starts its backend, but that has already happened: "
      f"start Python anew with this variable set, or call run() before any other use of jax."
    )
  os.environ["XLA_FLAGS"] = " ".join([*flags, FLAG])
