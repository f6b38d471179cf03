"""The data sets that `convattn prepare` writes: which there are, and how one gets to the disk.

They are TFDS's stock, which alone takes TensorFlow, and those that are made (see `made`). Of the stock, Fashion-MNIST
does without, where its files are.
"""

import contextlib
import fcntl
import importlib.util
import shutil
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from convattn.data import made
from convattn.data.preparation import quiet
from convattn.data.records import record_folder
from convattn.errors import UserError, nearest

_FASHION_MNIST = "fashion_mnist"
_WITHOUT_TENSORFLOW = {
  _FASHION_MNIST: " Or give the folder of its four files with --manual_dir=DIR, or install Debian's package "
  "dataset-fashion-mnist."
}


def missing(name: str, root: Path, own: Collection[str]) -> UserError:
  """The error for a data set that is not under `root`: the command that makes it, or the nearest known names.

  Args:
    name: of the data set, perhaps with a configuration and version behind slashes.
    root: the directory of all prepared data.
    own: names that are known besides TFDS's.
  """
  stock = [*_stock_names(), *made.MADE]
  if name.partition("/")[0] in _stock_names() or name in made.MADE:
    return UserError(
      f"data set {name!r} is not in {str(root)!r}; make it with: convattn prepare {name} --data_dir={root}"
    )
  prepared = sorted(path.name for path in root.glob("[!.]*") if path.name not in own and _is_prepared(path))
  alike = nearest(name, [*own, *prepared, *stock])
  here = [each for each in alike if each in {*own, *prepared}]
  meant = " or ".join(map(repr, here or alike))
  known = ", ".join([*sorted(own), *prepared])
  return UserError(
    f"unknown data set {name!r}; did you mean {meant}? Known: {known}, and TFDS's own and {', '.join(made.MADE)}, "
    "which convattn prepare makes."
  )


def _is_prepared(folder: Path) -> bool:
  return any(folder.glob("*/features.json")) or any(folder.glob("*/*/features.json"))


def _stock_names() -> list[str]:
  import tensorflow_datasets as tfds

  with quiet():
    return list(tfds.list_builders(with_community_datasets=False))  # those would be asked for in the network


def prepare_stock(name: str, root: Path, manual_dir: str = "") -> Path:
  """Writes the data set `name` in array_record format to ROOT/NAME/.../VERSION, unless it is there; returns that.

  TFDS writes to a directory of its own and renames it into place, so what is found is whole. Processes that prepare
  the same data set wait for each other; what one left half made, killed, is removed by the next. What TFDS prints and
  draws goes to stderr.

  Args:
    name: of TFDS's stock, such as "cifar10", perhaps with a configuration behind a slash; or one of `made.MADE`.
    root: the directory of all prepared data; downloads go to ROOT/downloads.
    manual_dir: where archives lie that TFDS cannot download, such as ImageNet's; empty: ROOT/downloads/manual.

  Raises:
    UserError: TensorFlow is not installed, the name is unknown, or preparing failed; one line.
    OSError: `root` cannot be written.
  """
  folder = record_folder(root, name)
  if folder is not None:
    return folder
  if name in made.MADE:
    made.prepare(name, root)
    return _written(root, name)
  if name.partition("/")[0] not in _stock_names():
    raise missing(name, root, ("digits", "folder"))
  if name == _FASHION_MNIST and _is_made_of_files(root, manual_dir):
    return _written(root, name)
  if importlib.util.find_spec("tensorflow") is None:
    raise UserError(
      f"preparing {name!r} takes TensorFlow (reading it does not); install it with: pip install '.[prepare]' in the "
      "checkout, or pip install tensorflow." + _WITHOUT_TENSORFLOW.get(name, "")
    )
  root.mkdir(parents=True, exist_ok=True)
  with _alone(root / f".{name.replace('/', '.')}.lock"):
    if record_folder(root, name) is None:  # nobody has made it meanwhile
      for left in (root / name).glob("**/incomplete.*"):
        shutil.rmtree(left)
      _download_and_prepare(name, root, manual_dir)
  return _written(root, name)


def _written(root: Path, name: str) -> Path:
  folder = record_folder(root, name)
  if folder is None:
    raise UserError(f"TFDS reports no error, but there is no {name!r} in {str(root)!r}.")
  return folder


def _is_made_of_files(root: Path, manual_dir: str) -> bool:
  """Makes Fashion-MNIST of its files in `manual_dir` or, if that is empty, of Debian's; False where there are none."""
  from convattn.data import fashion_mnist

  if not manual_dir and fashion_mnist.files_in(fashion_mnist.DEBIAN) is None:
    return False
  fashion_mnist.prepare(Path(manual_dir).expanduser() if manual_dir else fashion_mnist.DEBIAN, root)
  return True


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
  """Waits for every other process in this block; the kernel ends it with the process, however that ends."""
  with path.open("a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _download_and_prepare(name: str, root: Path, manual_dir: str) -> Any:
  import tensorflow_datasets as tfds

  downloads = root / "downloads"
  manual = str(Path(manual_dir).expanduser().absolute()) if manual_dir else None
  with contextlib.redirect_stdout(sys.stderr):
    try:
      builder = tfds.builder(name, data_dir=str(root), file_format="array_record")
      config = tfds.download.DownloadConfig(manual_dir=manual)
      builder.download_and_prepare(download_dir=str(downloads), download_config=config)
    except Exception as error:  # any of a hundred programs may fail, in its own way
      reason = " ".join(str(error).split())
      raise UserError(f"TFDS cannot prepare {name!r} in {str(root)!r}: {type(error).__name__}: {reason}") from error
