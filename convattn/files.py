"""Files that are there as a whole or not at all."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


def write_whole(contents: Mapping[Path, bytes]) -> None:
  """Writes each file beside its path, on the disk even if the power fails, and then renames them all.

  Whoever reads a path sees all of the old content or all of the new. What exists under these names is replaced; but a
  device or a pipe, such as /dev/stdout, is written into.

  Raises:
    OSError: one cannot be written; none is replaced then.
  """
  partial = {path: _beside(path) for path in contents if not takes_a_stream(path)}
  with contextlib.ExitStack() as cleaning:
    for path, temporary in partial.items():
      cleaning.callback(_remove, temporary)
      with _named(path), temporary.open("wb") as file:
        file.write(contents[path])
        file.flush()
        os.fsync(file.fileno())
    for path in contents.keys() - partial.keys():
      with _named(path), path.open("wb") as stream:
        stream.write(contents[path])
    for path, temporary in partial.items():
      temporary.replace(path)


def check_writable(path: Path) -> None:
  """Does what `write_whole` would do first, and undoes it.

  Raises:
    OSError: the file could not be written.
  """
  if takes_a_stream(path):
    path.open("wb").close()
    return
  temporary = _beside(path)
  try:
    temporary.open("wb").close()
  finally:
    _remove(temporary)


def takes_a_stream(path: Path) -> bool:
  """Whether what is there, a pipe or a device such as /dev/stdout, is written into rather than replaced."""
  # /dev/stdout may be a link to a plain file, but it is not to be replaced by another.
  in_dev = path.absolute().parent in (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))
  return path.exists() and (in_dev or not (path.is_file() or path.is_dir()))


def _beside(path: Path) -> Path:
  return path.with_name(f".{path.name}.partial")


def _remove(path: Path) -> None:
  with contextlib.suppress(OSError):  # where the file system refuses this as well, that is not what is the matter
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    # A full disk is met by what was opened, and has no name then.
    raise error if error.filename or error.errno is None else OSError(error.errno, error.strerror, str(path)) from None
