"""The evaluate command: exact numbers of a checkpoint or released weights on a split of a data set."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from convattn.commands.memory import naming_a_lack_of_memory
from convattn.commands.options import named_options, output_file, positive_number, split_options
from convattn.errors import UserError, counted
from convattn.training.config import Data, Experiment
from convattn.training.settings import apply_overrides, describe_settings, settings, validate

if TYPE_CHECKING:
  from convattn.data import Dataset
  from convattn.inference import Classifier, Matched

SPLITS = ("train", "validation", "test")

_HELP = """convattn evaluate --checkpoint=DIR|TAG [--weights=averaged|raw] [--split=test] [--batch_size=128]
                  [--config.data.SETTING=VALUE ...] [--out=FILE.json]

  --checkpoint  a run's workdir (its newest checkpoint), the folder of one checkpoint, or a tag of released weights
                such as coatnet_0_rw_224.sw_in1k
  --weights     averaged or raw (of the last update); by default averaged where the run keeps averages
  --split       train, validation or test
  --batch_size  images per call of the model; the result does not depend on it
  --out         write all numbers as JSON here too

Classes are matched by name. Those that the data lack are named, and so are those that the model does not know, whose
images are left out. The data are those of the run, changed by these settings; released weights, and runs on a task that
was passed in Python, have none that can be named. Images get the preprocessing of the model, and its size and
its way with EXIF orientations unless image_size and exif give others.

{settings}"""


@naming_a_lack_of_memory("lower --batch_size or data.image_size.")
def run(arguments: Sequence[str]) -> None:
  """Prints accuracy, top-5 accuracy, loss, calibration error, confusion and the numbers of each class.

  Raises:
    UserError: a wrong argument, checkpoint or data set, or data of other classes than the model's.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP.format(settings=_data_settings()))
    return
  options = split_options(arguments)
  overrides = [(name.removeprefix("config."), text) for name, text in options if name.startswith("config.data.")]
  rest = [(name, text) for name, text in options if not name.startswith("config.data.")]
  every_setting = [f"config.{name}" for name, _, _ in settings(Experiment()) if name.startswith("data.")]
  values = {
    "split": "test",
    "batch_size": "128",
    **named_options(rest, ("checkpoint", "weights", "split", "batch_size", "out"), related=every_setting),
  }
  if "checkpoint" not in values:
    raise UserError("which model? --checkpoint=DIR|TAG, such as --checkpoint=runs/digits.")
  if values["split"] not in SPLITS:
    raise UserError(f"--split must be one of {', '.join(SPLITS)}, got {values['split']!r}.")
  batch_size = positive_number("batch_size", values["batch_size"])
  out = output_file("out", values["out"]) if "out" in values else None
  apply_overrides(Experiment(), overrides)  # before anything is read
  # Imported here: --help and mistakes do without.
  from convattn import inference
  from convattn.commands.counting import Counting
  from convattn.commands.scores import as_json, report
  from convattn.training.classification import load_dataset
  from convattn.training.task import SKIPPED_PICTURES
  from convattn.training.workdir import write_json

  restored = inference.restore_classifier(values["checkpoint"], weights=values.get("weights"))
  data = _data_of(restored, overrides)
  with _saying_whose(data, restored, overrides):
    dataset = load_dataset(Experiment(data=data), restored.preprocessing)
  dataset, matched = _matched(restored, dataset, given=bool(overrides))
  notes, split = [*matched.notes(), *dataset.remarks], values["split"]
  with Counting(len(getattr(dataset, split))) as counting:
    scores = inference.classification(
      restored, dataset, split, batch_size=batch_size, workers=data.workers, advance=counting.advance
    )
  skipped = dataset.skipped()
  are = "is" if skipped == 1 else "are"
  notes += [f"{counted(skipped, 'picture')} could not be read and {are} left out"] * bool(skipped)
  if out is not None:  # before it is printed, perhaps for a reader who has seen enough
    model = {"checkpoint": restored.source, "step": restored.step, "averaged": restored.averaged}
    images = {"data": dataclasses.asdict(data), "split": split, SKIPPED_PICTURES: skipped}
    classes = {"missing_classes": matched.missing, "left_out_classes": matched.extra, "notes": notes}
    write_json(out, {**model, **images, **classes, **as_json(scores, restored.class_names)})
  lines = [*_title(restored, data, split), *(f"note: {each}" for each in notes)]
  print("\n".join([*lines, report(scores, restored.class_names)]))


def _data_settings() -> str:
  lines = [line for line in describe_settings(Experiment()).splitlines() if line.startswith("  --config.data.")]
  # Without the defaults, which are not those of the run.
  return "\n".join(re.sub(r" = \S+", lambda default: " " * len(default[0]), line, count=1) for line in lines)


def _data_of(restored: Classifier, overrides: Sequence[tuple[str, str]]) -> Data:
  """The run's own data settings with the overrides, with the model's image size and EXIF unless they give others."""
  names = [name for name, _ in overrides]
  if restored.experiment is None and "data.name" not in names:
    raise UserError(
      f"{restored.source} comes without data; name some, such as --config.data.name=folder --config.data.dir=DIR."
    )
  if restored.task_passed and "data.name" not in names:
    raise UserError(
      f"the task of {restored.source} was passed to training.run in Python, so its settings do not name its data; name "
      f"some with --config.data.name=..., or score its own in Python with training.restore({restored.source!r}) "
      f'(docs/data.md, "Arrays of your own").'
    )
  own = Data() if restored.experiment is None else restored.experiment.data
  experiment = apply_overrides(Experiment(data=own), overrides)
  height, width = restored.preprocessing.image_size
  if "data.exif" not in names:
    experiment = _with(experiment, exif=restored.preprocessing.exif)
  if "data.image_size" not in names:
    # A folder's pictures get a rectangle from the preprocessing; images in memory keep their size.
    size = height if height == width else 0
    experiment = _with(experiment, image_size=size)
  validate(experiment)
  return experiment.data


def _with(experiment: Experiment, **changes: Any) -> Experiment:
  return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, **changes))


@contextlib.contextmanager
def _saying_whose(data: Data, restored: Classifier, overrides: Sequence[tuple[str, str]]) -> Iterator[None]:
  """Adds to an error of the data that their folder was named by the run, perhaps as seen from another one."""
  try:
    yield
  except (ValueError, OSError) as error:
    if not data.dir or "data.dir" in dict(overrides):
      raise
    raise UserError(
      f"{error} (data.dir is {data.dir!r} in the settings of {restored.source}; give another by --config.data.dir.)"
    ) from error


def _matched(restored: Classifier, dataset: Dataset, given: bool) -> tuple[Dataset, Matched]:
  """As `match_classes`; `given` says that the user named the data.

  Raises:
    UserError: as `match_classes`, or other names in what should be the run's own data.
  """
  from convattn.inference import match_classes

  found, matched = match_classes(restored, dataset)
  if matched.notes() and not given:
    raise UserError(
      f"the data that the settings of {restored.source} name are not those it was trained on "
      f"({matched.by_number or '; '.join(matched.notes())}); name yours with --config.data.name and .dir."
    )
  return found, matched


def _title(restored: Classifier, data: Data, split: str) -> list[str]:
  where = f" in {data.dir}" if data.dir else ""
  return [restored.title, f"{split} split of {data.name}{where}"]
