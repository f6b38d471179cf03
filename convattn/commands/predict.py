"""The predict command: the classes of pictures, by name, from a checkpoint or released weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convattn.commands.memory import naming_a_lack_of_memory
from convattn.commands.options import named_options, output_file, positive_number, split_positional
from convattn.errors import UserError, printable

_HELP = """convattn predict --checkpoint=DIR|TAG [--weights=averaged|raw] [--top=5] [--batch_size=32] [--out=FILE.json]
                 PATH ...

  --checkpoint  a run's workdir (its newest checkpoint), the folder of one checkpoint, or a tag of released weights
                such as coatnet_0_rw_224.sw_in1k
  --weights     averaged or raw (of the last update); by default averaged where the run keeps averages
  --top         classes to print for each picture
  --batch_size  pictures per call of the model; the result does not depend on it
  --out         write all of it as JSON here too
  PATH          pictures, and folders that are searched for pictures at any depth; behind -- anything is a path"""

_LISTED = 4
"""At most so many unreadable pictures are named in one line."""


@naming_a_lack_of_memory("lower --batch_size.")
def run(arguments: Sequence[str]) -> None:
  """Prints, for each picture, its most likely classes with their softmax probabilities.

  That every path is there is checked before anything is computed. Pictures that cannot be read are left out, and named
  after the others have been printed.

  Raises:
    UserError: a wrong argument, path or checkpoint, or pictures that cannot be read.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP)
    return
  options, paths = split_positional(arguments)
  known = ("checkpoint", "weights", "top", "batch_size", "out")
  values = {"top": "5", "batch_size": "32", **named_options(options, known)}
  if "checkpoint" not in values:
    raise UserError("which model? --checkpoint=DIR|TAG, such as --checkpoint=runs/digits.")
  top, batch_size = (positive_number(name, values[name]) for name in ("top", "batch_size"))
  out = output_file("out", values["out"]) if "out" in values else None
  pictures = find_pictures(paths)
  # Imported here: --help and mistakes do without.
  from convattn import inference
  from convattn.commands.counting import Counting
  from convattn.training import output
  from convattn.training.workdir import write_json

  restored = inference.restore_classifier(values["checkpoint"], weights=values.get("weights"))
  unreadable: list[tuple[Path, str]] = []
  made = inference.predictions(restored, pictures, top=top, batch_size=batch_size, unreadable=unreadable)
  predictions = []
  with output.guarded(goes_on=out is not None), Counting(len(pictures)) as counting:
    for path, best in made:
      counting.write(_shown(path, best))
      counting.advance(1)
      predictions.append({"image": str(path), "top": [{"class": name, "probability": p} for name, p in best]})
  if out is not None:
    model = {"checkpoint": restored.source, "step": restored.step, "averaged": restored.averaged}
    write_json(out, {**model, "predictions": predictions})
  if unreadable:
    raise UserError(_complaint(unreadable, len(pictures)))


def find_pictures(paths: Sequence[str]) -> list[Path]:
  """The files among `paths`, and the pictures in the folders among them, sorted within each folder.

  Raises:
    UserError: no path, one that is not there, or a folder without pictures or that cannot be read.
  """
  from convattn.data.scanning import pictures_below
  from convattn.pretrained.picture_files import SUFFIXES

  if not paths:
    raise UserError("which pictures? Name files or folders behind the options, such as cat.jpg or pictures/.")
  found: list[Path] = []
  for path in (Path(each).expanduser() for each in paths):
    if not path.exists():
      raise UserError(f"there is no file or folder {str(path)!r}; check how it is written.")
    if path.is_dir():
      inside = [Path(each) for each in pictures_below(path)]
      if not inside:
        raise UserError(f"the folder {str(path)!r} holds no picture ({' '.join(SUFFIXES)}); name another.")
      found += inside
    else:
      found.append(path)
  return found


def _shown(path: Path, best: Sequence[tuple[str, float]]) -> str:
  return "\n".join([printable(str(path)), *(f"  {probability:>7.2%}  {printable(name)}" for name, probability in best)])


def _complaint(unreadable: Sequence[tuple[Path, str]], total: int) -> str:
  path, reason = unreadable[0]
  first = reason if repr(str(path)) in reason else f"{str(path)!r}: {reason}"
  if len(unreadable) == 1:
    return first
  others = ", ".join(repr(str(path)) for path, _ in unreadable[1:_LISTED])
  more = f" and {len(unreadable) - _LISTED} more" if len(unreadable) > _LISTED else ""
  return f"{len(unreadable)} of {total} pictures cannot be read: {first} Also {others}{more}."
