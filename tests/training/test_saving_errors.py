import errno
import logging
import sys

import pytest

from convattn.training.saving_errors import full_disk_line, is_full_disk, told_once


def raised(*errors):
  """The last of the errors, each raised because of the one before it."""
  caught = None
  for error in errors:
    try:
      raise error from caught
    except Exception as now:
      caught = now
  return caught


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_known_by_its_number_wherever_it_came_from(number):
  error = OSError(number, "no room")
  assert is_full_disk(error)
  assert is_full_disk(raised(error, RuntimeError("failed"), ValueError("failed again")))
  assert is_full_disk(ExceptionGroup("both", [KeyError(1), raised(error, KeyError(2))]))
  assert is_full_disk(ValueError(f"RESOURCE_EXHAUSTED: Failed to write 9 bytes [os_error_code='{number}']"))


def test_other_errors_are_none():
  assert not is_full_disk(raised(PermissionError(errno.EACCES, "closed"), ValueError("os_error_code='2'")))
  assert not is_full_disk(ExceptionGroup("both", [KeyError(1), KeyError(2)]))


def test_an_error_that_was_raised_from_itself_has_an_end():
  error = ValueError("failed")
  assert not is_full_disk(raised(error, error))


def test_the_line_is_one(tmp_path):
  assert full_disk_line(tmp_path).startswith(f"the disk of {tmp_path} is full")
  assert len(full_disk_line(tmp_path).splitlines()) == 1


@pytest.fixture
def absl(monkeypatch):
  """Orbax's logger, with what passes its filters; the hook and the filters are as before afterwards."""
  logger = logging.getLogger("absl")
  monkeypatch.setattr(logger, "filters", [])
  monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)

  def passes(path="/site-packages/orbax/future.py"):
    error = OSError("full")
    record = logging.LogRecord("absl", logging.ERROR, path, 1, "run() raised", (), (OSError, error, None))
    return bool(logger.filter(record))

  return passes


def test_a_thread_that_speaks_after_the_block_is_not_heard_if_one_spoke_within(absl):
  with told_once():
    assert not absl()
    assert absl(path="/site-packages/another.py")
  assert not absl()
  assert absl(path="/site-packages/another.py")


def test_without_an_error_the_block_leaves_nothing_behind(absl):
  hook = sys.unraisablehook
  with told_once():
    assert sys.unraisablehook is not hook
  assert absl()
  assert sys.unraisablehook is hook
