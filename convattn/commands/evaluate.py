"""The evaluate command: exact numbers of a checkpoint or released weights on a split of a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from convattn.commands.data_of_model import data_settings, load_data, setting_names, split_data_settings
from convattn.commands.memory import naming_a_lack_of_memory
from convattn.commands.options import named_options, output_file, positive_number, split_options
from convattn.errors import UserError, counted
from convattn.training.config import Data

if TYPE_CHECKING:
  from convattn.inference import Classifier

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
    print(_HELP.format(settings=data_settings()))
    return
  rest, overrides = split_data_settings(split_options(arguments))
  known = ("checkpoint", "weights", "split", "batch_size", "out")
  values = {"split": "test", "batch_size": "128", **named_options(rest, known, related=setting_names())}
  if "checkpoint" not in values:
    raise UserError("which model? --checkpoint=DIR|TAG, such as --checkpoint=runs/digits.")
  if values["split"] not in SPLITS:
    raise UserError(f"--split must be one of {', '.join(SPLITS)}, got {values['split']!r}.")
  batch_size = positive_number("batch_size", values["batch_size"])
  out = output_file("out", values["out"]) if "out" in values else None
  # Imported here: --help and mistakes do without.
  from convattn import inference
  from convattn.commands.counting import Counting
  from convattn.commands.scores import as_json, report
  from convattn.training.task import SKIPPED_PICTURES
  from convattn.training.workdir import write_json

  restored = inference.restore_classifier(values["checkpoint"], weights=values.get("weights"))
  data, dataset, matched = load_data(restored, overrides)
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


def _title(restored: Classifier, data: Data, split: str) -> list[str]:
  where = f" in {data.dir}" if data.dir else ""
  return [restored.title, f"{split} split of {data.name}{where}"]
