"""The predict command: the classes of pictures, by name, from a checkpoint or released weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convattn.commands.errors import UsageError, refusing
from convattn.commands.options import named_options, output_file, positive_number, split_positional

if TYPE_CHECKING:
  import numpy as np

  from convattn.pretrained.pictures import Preprocessing
  from convattn.training import Restored

_HELP = """convattn predict --checkpoint=DIR|TAG [--top=5] [--batch_size=32] [--out=FILE.json] PATH ...

  --checkpoint  a run's workdir (its newest checkpoint), the folder of one checkpoint, or a tag of released weights
                such as coatnet_0_rw_224.sw_in1k; averaged weights where the run keeps them
  --top         classes to print for each picture
  --batch_size  pictures per call of the model; the result does not depend on it
  --out         write all of it as JSON here too
  PATH          pictures, and folders that are searched for pictures at any depth; behind -- anything is a path"""

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What counts as a picture in a folder, in upper or lower case; a file named by itself may have any name."""

_LISTED = 4
"""At most so many unreadable pictures are named in one line."""


def run(arguments: Sequence[str]) -> None:
  """Prints, for each picture, its most likely classes with their softmax probabilities.

  That every path is there is checked before anything is computed. Pictures that cannot be read are left out, and named
  after the others have been printed.

  Raises:
    UsageError: a wrong argument, path or checkpoint, or pictures that cannot be read.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP)
    return
  options, paths = split_positional(arguments)
  values = {"top": "5", "batch_size": "32", **named_options(options, ("checkpoint", "top", "batch_size", "out"))}
  if "checkpoint" not in values:
    raise UsageError("which model? --checkpoint=DIR|TAG, such as --checkpoint=runs/digits.")
  top, batch_size = (positive_number(name, values[name]) for name in ("top", "batch_size"))
  out = output_file("out", values["out"]) if "out" in values else None
  pictures = find_pictures(paths)
  # Imported here: --help and mistakes do without.
  from convattn import training
  from convattn.training.workdir import write_json

  with refusing(ValueError, OSError):
    restored = training.restore(values["checkpoint"])
  predictions, unreadable = _predict(restored, pictures, top, batch_size)
  if out is not None:
    write_json(out, {"checkpoint": restored.source, "step": restored.step, "predictions": predictions})
  if unreadable:
    raise UsageError(_complaint(unreadable, len(pictures)))


def find_pictures(paths: Sequence[str]) -> list[Path]:
  """The files among `paths`, and the pictures in the folders among them, sorted within each folder.

  Raises:
    UsageError: no path, one that is not there, or a folder without pictures.
  """
  if not paths:
    raise UsageError("which pictures? Name files or folders behind the options, such as cat.jpg or pictures/.")
  found: list[Path] = []
  for path in (Path(each).expanduser() for each in paths):
    if not path.exists():
      raise UsageError(f"there is no file or folder {str(path)!r}; check how it is written.")
    if path.is_dir():
      inside = [each for each in sorted(path.rglob("*")) if each.suffix.lower() in SUFFIXES and each.is_file()]
      if not inside:
        raise UsageError(f"the folder {str(path)!r} holds no picture ({' '.join(SUFFIXES)}); name another.")
      found += inside
    else:
      found.append(path)
  return found


def _predict(
  restored: Restored, pictures: Sequence[Path], top: int, batch_size: int
) -> tuple[list[dict[str, Any]], list[tuple[Path, str]]]:
  """(what goes into the JSON file, each printed as soon as it is known; unreadable pictures with what is wrong)."""
  from convattn.commands.counting import Counting
  from convattn.training.inference import logits_of

  predictions: list[dict[str, Any]] = []
  unreadable: list[tuple[Path, str]] = []
  batches = _batches(restored.preprocessing, pictures, batch_size, unreadable)
  with refusing(FloatingPointError), Counting(len(pictures)) as counting:
    for logits, paths in logits_of(restored, batches, batch_size):
      for row, path in zip(logits, paths, strict=True):
        best = most_likely(row, restored.class_names, top)
        counting.write(_shown(path, best))
        predictions.append({"image": str(path), "top": [{"class": name, "probability": p} for name, p in best]})
      counting.advance(len(paths))
  return predictions, unreadable


def _batches(
  preprocessing: Preprocessing, pictures: Sequence[Path], batch_size: int, unreadable: list[tuple[Path, str]]
) -> Iterator[tuple[np.ndarray, list[Path]]]:
  """(pixels [n, h, w, c], paths) of the readable pictures; the others are added to `unreadable`."""
  import numpy as np

  from convattn.pretrained.pictures import open_picture

  pixels: list[np.ndarray] = []
  paths: list[Path] = []
  for path in pictures:
    try:
      pixels.append(preprocessing.pixels(open_picture(path)))
      paths.append(path)
    except ValueError as error:
      unreadable.append((path, str(error)))
    if len(paths) == batch_size:
      yield np.stack(pixels), paths
      pixels, paths = [], []
  if paths:
    yield np.stack(pixels), paths


def most_likely(logits: np.ndarray, class_names: Sequence[str], top: int) -> list[tuple[str, float]]:
  """(name, softmax probability in float64) of the `top` largest of logits [classes], of equals the first."""
  import numpy as np

  weights = np.exp(logits.astype(np.float64) - logits.max())
  order = np.argsort(-logits, kind="stable")[:top]
  return [(class_names[i], float(weights[i] / weights.sum())) for i in order]


def _shown(path: Path, best: Sequence[tuple[str, float]]) -> str:
  return "\n".join([str(path), *(f"  {probability:>7.2%}  {name}" for name, probability in best)])


def _complaint(unreadable: Sequence[tuple[Path, str]], total: int) -> str:
  path, reason = unreadable[0]
  first = reason if repr(str(path)) in reason else f"{str(path)!r}: {reason}"
  if len(unreadable) == 1:
    return first
  others = ", ".join(repr(str(path)) for path, _ in unreadable[1:_LISTED])
  more = f" and {len(unreadable) - _LISTED} more" if len(unreadable) > _LISTED else ""
  return f"{len(unreadable)} of {total} pictures cannot be read: {first} Also {others}{more}."
