"""Files that are there as a whole or not at all."""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path


def write_whole(contents: Mapping[Path, bytes]) -> None:
  """Writes each file beside its path, on the disk even if the power fails, and then renames them all.

  Whoever reads a path sees all of the old content or all of the new. What exists under these names is replaced.

  Raises:
    OSError: one cannot be written; none is replaced then.
  """
  partial = {path: path.with_name(f".{path.name}.partial") for path in contents}
  with contextlib.ExitStack() as cleaning:
    for path, content in contents.items():
      cleaning.callback(partial[path].unlink, missing_ok=True)
      with partial[path].open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    for path, temporary in partial.items():
      temporary.replace(path)
