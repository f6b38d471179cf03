"""What a user did wrong, told in one line. Anything else that is raised is a bug and keeps its traceback."""

import contextlib
from collections.abc import Iterator


class UsageError(Exception):
  """The request cannot be carried out as made; the message says what to change. `main` prints it and returns 2."""


@contextlib.contextmanager
def refusing(*kinds: type[Exception]) -> Iterator[None]:
  """Turns exceptions of these kinds, raised in the block, into a UsageError with the same message on one line.

  For blocks that only check what the user gave: there a ValueError is the user's, elsewhere it may be ours.
  """
  try:
    yield
  except kinds as error:
    raise UsageError(" ".join(str(error).split())) from error


@contextlib.contextmanager
def naming_a_lack_of_memory(advice: str) -> Iterator[None]:
  """Turns what Python, or JAX of a device, raises for want of memory into a UsageError that ends with `advice`."""
  import jax  # here, because this module is there before anything is asked of it

  try:
    yield
  except MemoryError as error:
    raise UsageError(
      f"this machine has too little memory ({_short(error) or 'no more can be had'}); {advice}"
    ) from error
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    raise UsageError(f"the device has too little memory ({_short(error)}); {advice}") from error


def _short(error: Exception) -> str:
  lines = str(error).splitlines()
  return lines[0].strip()[:200] if lines else ""
