"""What can happen to the files of checkpoints, one at a time; see benchmarks.campaign."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path


def _remove(path: Path) -> None:
  path.unlink()


def _empty(path: Path) -> None:
  path.write_bytes(b"")


def cut(path: Path, length: int) -> None:
  """Keeps the first `length` bytes of a file."""
  path.write_bytes(path.read_bytes()[:length])


def flip(path: Path, bit: int) -> None:
  """Inverts one bit of a file, counted from its start."""
  content = bytearray(path.read_bytes())
  content[bit // 8] ^= 1 << bit % 8
  path.write_bytes(content)


def damages(run: Path, count: int, draws: random.Random) -> Iterator[tuple[str, str, Callable[[Path], None]]]:
  """(kind, path relative to `run`, function that damages a file) for every trial on the checkpoints in `run`.

  Every file of every step goes missing once and is emptied once. Of those that are not empty, `count` drawn ones are
  cut off at a drawn place, and in `count` drawn ones a drawn bit is flipped.
  """
  checkpoints = run / "checkpoints"
  steps = [path for path in checkpoints.iterdir() if path.name.isdecimal()]
  every = sorted(path for step in steps for path in step.rglob("*") if path.is_file())
  filled = [path for path in every if path.stat().st_size]
  for path in every:
    yield "file missing", str(path.relative_to(run)), _remove
  for path in filled:  # the others are so already
    yield "file emptied", str(path.relative_to(run)), _empty
  for path in draws.choices(filled, k=count):
    length = draws.randrange(path.stat().st_size)
    yield "file cut off", f"{path.relative_to(run)} at {length}", lambda path, length=length: cut(path, length)
  for path in draws.choices(filled, k=count):
    bit = draws.randrange(8 * path.stat().st_size)
    yield "bit flipped", f"{path.relative_to(run)} bit {bit}", lambda path, bit=bit: flip(path, bit)
