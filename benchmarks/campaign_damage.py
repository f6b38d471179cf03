"""What can happen to the files of checkpoints, one at a time; see benchmarks.campaign."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path


def _remove(path: Path) -> None:
  path.unlink()


def _empty(path: Path) -> None:
  path.write_bytes(b"")


def _halve(path: Path) -> None:
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, bit: int) -> None:
  """Inverts one bit of a file, counted from its start."""
  content = bytearray(path.read_bytes())
  content[bit // 8] ^= 1 << bit % 8
  path.write_bytes(content)


def damages(run: Path, flips: int, draws: random.Random) -> Iterator[tuple[str, str, Callable[[Path], None]]]:
  """(kind, path relative to `run`, function that damages a file) for every trial on the checkpoints in `run`."""
  checkpoints = run / "checkpoints"
  steps = sorted((path for path in checkpoints.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
  newest = sorted(path for path in steps[-1].rglob("*") if path.is_file())
  for kind, damage in {"file missing": _remove, "file emptied": _empty, "file cut in half": _halve}.items():
    for path in newest:
      yield kind, str(path.relative_to(run)), damage
  every = sorted(path for step in steps for path in step.rglob("*") if path.is_file() and path.stat().st_size)
  for path in draws.choices(every, k=flips):
    bit = draws.randrange(8 * path.stat().st_size)
    yield "bit flipped", f"{path.relative_to(run)} bit {bit}", lambda path, bit=bit: flip(path, bit)
