"""The prepare command: a data set is written to the disk, so that the first training need not do it."""

from collections.abc import Sequence

from convattn.commands.errors import refusing
from convattn.commands.options import named_options, split_options
from convattn.training.config import Data

_HELP = """convattn prepare [--name={name}] [--dir=DIR]

  --name  the data set: digits, or folder (which needs no preparing: its pictures are counted)
  --dir   where prepared data lies (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets); of folder the folder itself"""


def run(arguments: Sequence[str]) -> None:
  """Prepares the data set if it is missing; prints where it lies and how many examples its splits have.

  Raises:
    UsageError: a wrong argument, an unknown data set, or a directory that cannot be written.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP.format(name=Data().name))
    return
  options = {"name": Data().name, "dir": Data().dir, **named_options(split_options(arguments), ("name", "dir"))}
  # Imported here: --help does without.
  from convattn.data import load
  from convattn.data.preparation import data_root

  with refusing(ValueError, OSError):
    dataset = load(options["name"], options["dir"])
  root = data_root(options["dir"])
  print(root if options["name"] == "folder" else root / options["name"])
  for split in ("train", "validation", "test"):
    print(f"{split} {len(getattr(dataset, split))}")
