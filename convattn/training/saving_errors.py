"""Errors of a save: what a full disk is called, and each told once, though Orbax's threads print what it raises too."""

import contextlib
import errno
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from convattn.errors import UserError

_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_full_disk(error: BaseException) -> bool:
  """Whether `error`, or one that it came from, says that the disk, a quota or a limit on file sizes is exhausted."""
  texts = [f"os_error_code='{number}'" for number in _NUMBERS]  # TensorStore's errors have no errno
  return any(
    (isinstance(each, OSError) and each.errno in _NUMBERS) or any(text in str(each) for text in texts)
    for each in _chain(error)
  )


def full_disk_line(folder: Path) -> str:
  """What to tell the user of a full disk."""
  return f"the disk of {folder} is full (or a quota is); make room, then give the same command to go on from there."


@contextlib.contextmanager
def naming_a_full_disk(folder: Path) -> Iterator[None]:
  """Within it an error that says that the disk is full is a UserError, `full_disk_line`."""
  try:
    yield
  except OSError as error:
    if is_full_disk(error):
      raise UserError(full_disk_line(folder)) from error
    raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  seen: set[int] = set()  # an error may have been raised from itself
  while error is not None and id(error) not in seen:
    seen.add(id(error))
    yield error
    if isinstance(error, BaseExceptionGroup):
      for each in error.exceptions:
        yield from _chain(each)
    error = error.__cause__ or error.__context__


@contextlib.contextmanager
def told_once() -> Iterator[None]:
  """Within it, Orbax's and TensorStore's threads print no traceback of an error that waiting for the save raises.

  After such an error they stay silent for good: one of them may still be at work when another's error has been raised,
  and speak after the block.
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
    if not failed:
      logger.removeFilter(is_not_raised_too)
      if sys.unraisablehook is filtered:
        sys.unraisablehook = hook


def _is_late(error: BaseException | None) -> bool:
  # When the writing of one array has failed, TensorStore reports on the others to a loop that is gone.
  return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
