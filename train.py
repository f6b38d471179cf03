"""Trains an experiment: `python train.py --config=configs/NAME.py --workdir=DIR`; `--help` lists every setting."""

import sys

from convattn.commands import main

if __name__ == "__main__":
  sys.exit(main(["train", *sys.argv[1:]]))
