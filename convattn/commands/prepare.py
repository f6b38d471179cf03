"""The prepare command: a data set is written to the disk, before the first training asks for it."""

from collections.abc import Sequence

from convattn.commands.options import named_options, split_positional
from convattn.errors import UserError
from convattn.training.config import Data

_HELP = """convattn prepare [NAME] [--data_dir=DIR] [--manual_dir=DIR]

  NAME          {name} (without NAME), a stock data set of TFDS such as cifar10 or imagenet2012 (which takes
                TensorFlow; fashion_mnist does without), folder (which needs no preparing: its pictures are counted),
                or one that is made:
                {made}
  --data_dir    where prepared data lies (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets); of folder the folder
                itself
  --manual_dir  where archives lie that cannot be downloaded, such as ILSVRC2012_img_train.tar and
                ILSVRC2012_img_val.tar (default: downloads/manual below that), or the four files of fashion_mnist
                (default: those of Debian's package dataset-fashion-mnist)"""


def run(arguments: Sequence[str]) -> None:
  """Prepares the data set if it is missing; prints where it lies and how many examples its splits have.

  Raises:
    UserError: a wrong argument, an unknown data set, a directory that cannot be written, or no TensorFlow.
  """
  if {"-h", "--help"} & set(arguments):
    from convattn.data.made import MADE

    print(_HELP.format(name=Data().name, made=", ".join(MADE)))
    return
  options, names = split_positional(arguments)
  directories = {"data_dir": "", "manual_dir": "", **named_options(options, ("data_dir", "manual_dir"))}
  if len(names) > 1:
    raise UserError(f"expected one data set, got {' '.join(map(repr, names))}; prepare one after the other.")
  name, directory = (names or [Data().name])[0], directories["data_dir"]
  # Imported here: --help does without.
  from convattn.data import load
  from convattn.data.preparation import data_root
  from convattn.data.stock import prepare_stock

  if name not in (Data().name, "folder"):
    prepare_stock(name, data_root(directory), directories["manual_dir"])
  dataset = load(name, directory)
  root = data_root(directory)
  print(root if name == "folder" else root / name)
  for split in ("train", "validation", "test"):
    print(f"{split} {len(getattr(dataset, split))}")
