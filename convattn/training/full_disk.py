"""What a full disk is called by those who could not write to it."""

import errno
from collections.abc import Iterator
from pathlib import Path

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


def _chain(error: BaseException | None) -> Iterator[BaseException]:
  seen: set[int] = set()  # an error may have been raised from itself
  while error is not None and id(error) not in seen:
    seen.add(id(error))
    yield error
    if isinstance(error, BaseExceptionGroup):
      for each in error.exceptions:
        yield from _chain(each)
    error = error.__cause__ or error.__context__
