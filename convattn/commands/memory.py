"""A lack of memory, told in one line with what can be done about it."""

import contextlib
from collections.abc import Iterator

from convattn.errors import UserError


@contextlib.contextmanager
def naming_a_lack_of_memory(advice: str) -> Iterator[None]:
  """Turns what Python, or JAX of a device, raises for want of memory into a UserError that ends with `advice`."""
  try:
    yield
  except MemoryError as error:
    raise UserError(
      f"this machine has too little memory ({_short(error) or 'no more can be had'}); {advice}"
    ) from error
  except RuntimeError as error:
    import jax  # here, because this module is there before anything is asked of it

    if not isinstance(error, jax.errors.JaxRuntimeError) or "RESOURCE_EXHAUSTED" not in str(error):
      raise
    raise UserError(f"the device has too little memory ({_short(error)}); {advice}") from error


def _short(error: Exception) -> str:
  lines = str(error).splitlines()
  return lines[0].strip()[:200] if lines else ""
