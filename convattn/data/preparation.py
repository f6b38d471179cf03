"""TFDS data on the disk: where it lies, and how it gets there without TensorFlow, without noise, and only once."""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from absl import logging

from convattn.errors import UserError


def data_root(directory: str = "") -> pathlib.Path:
  """The directory of all prepared data: `directory`, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
  chosen = directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
  return pathlib.Path(chosen).expanduser().absolute()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Nothing that TFDS prints, draws or advises is seen inside the block; what goes wrong arrives as an exception."""
  # TFDS prints to stdout and draws progress bars on stderr. Its own switch for the bars stays thrown for the whole
  # process; redirecting ends with the block. A log handler has kept the stderr of before: it is told by the level.
  level = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
      yield
  finally:
    logging.set_verbosity(level)


def prepared(builder_class: Any, root: pathlib.Path) -> Any:
  """A TFDS builder whose data lies under `root` in array_record format, written there first if it is missing.

  TFDS writes to a directory of its own and renames it into place, so other processes see all of the data or none.
  Of several processes that prepare at once the first to finish wins, and the others use what it wrote.

  Args:
    builder_class: subclass of `tfds.core.GeneratorBasedBuilder`, defined in an importable package.
    root: the directory of all prepared data; made if missing, only read if the data is there already.

  Raises:
    UserError: the data is missing and cannot be written, or its directory holds something else.
  """

  def builder() -> Any:
    return builder_class(data_dir=str(root), file_format="array_record")

  with quiet():
    try:
      builder().download_and_prepare()  # does nothing where the data is there
    except OSError as error:
      # Losing the race to another process ends here too: its directory is in the way of our rename.
      if not builder().info.splits:
        raise UserError(
          f"cannot prepare data set {builder_class.name!r} in {str(root)!r}: {error.strerror or error}; name a "
          "directory that can be written with --config.data.dir=DIR or $TFDS_DATA_DIR."
        ) from error
    ready = builder()  # a builder sees only what lay on the disk when it was made
  if not ready.info.splits:
    raise UserError(f"{ready.data_dir!r} exists but holds no prepared {ready.name!r}; delete it and start again.")
  return ready
