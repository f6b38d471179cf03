"""Errors of a save, told once: what Orbax's threads print of an error that it raises as well is left out."""

import contextlib
import logging
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def told_once() -> Iterator[None]:
  """Within it, Orbax's and TensorStore's threads print no traceback of an error that waiting for the save raises.

  After such an error TensorStore's stay silent for good: they may speak after the block.
  """
  logger, hook, failed = logging.getLogger("absl"), sys.unraisablehook, False

  def is_not_raised_too(record: logging.LogRecord) -> bool:
    nonlocal failed
    raised = bool(record.exc_info) and "orbax" in record.pathname
    failed = failed or raised
    return not raised

  def filtered(unraisable: "sys.UnraisableHookArgs") -> None:
    if not _is_late(unraisable.exc_value):
      hook(unraisable)

  logger.addFilter(is_not_raised_too)
  sys.unraisablehook = filtered
  try:
    yield
  finally:
    logger.removeFilter(is_not_raised_too)
    if sys.unraisablehook is filtered and not failed:
      sys.unraisablehook = hook


def _is_late(error: BaseException | None) -> bool:
  # When the writing of one array has failed, TensorStore reports on the others to a loop that is gone.
  return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
