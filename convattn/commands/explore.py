"""The explore command: one page on which one sees what a trained model looks at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convattn.commands.data_of_model import data_settings, load_data, setting_names, split_data_settings
from convattn.commands.memory import naming_a_lack_of_memory
from convattn.commands.options import named_options, output_file, positive_decimal, positive_number, split_positional
from convattn.commands.predict import find_pictures
from convattn.errors import UserError, counted, printable

if TYPE_CHECKING:
  from convattn.inference import Classifier, Examples

_HELP = """convattn explore --checkpoint=DIR|TAG [--images=PATH ...] [--out=explore.html] [--compare=DIR|TAG]
                 [--layers=PATTERN] [--count=16] [--max-megabytes=20] [--weights=averaged|raw]
                 [--config.data.SETTING=VALUE ...]

  --checkpoint     a run's workdir (its newest checkpoint), the folder of one checkpoint, or a tag of released weights
                   such as coatnet_0_rw_224.sw_in1k
  --images         pictures, and folders that are searched for pictures at any depth; without it images of the run's
                   own test part, first one that the model gets wrong or nearly
  --out            the page, one file that needs neither a server nor a network
  --compare        another model of the same image size, shown beside it
  --layers         a pattern such as 'stage_4/*': the layers that attend which are shown; without it
                   all of them, or as there is room
  --count          images at most; without it 16 of the data, or as many as there is room for, and all of --images
  --max-megabytes  a page that is estimated to be larger is refused before anything is computed; one that comes out
                   larger is written, and said to be
  --weights        averaged or raw (of the last update); by default averaged where the run keeps averages

The checkpoints that a run kept with --config.checkpoint.keep_every are on a slider, as many as there is room for. The
data are those of the run, changed by these settings:

{settings}"""

_COUNT, _MEGABYTES = 16, 20


@naming_a_lack_of_memory("lower --count, or name fewer layers with --layers.")
def run(arguments: Sequence[str]) -> None:
  """Writes the page and prints its path and size, and what it shows.

  Raises:
    UserError: a wrong argument, path or checkpoint, a picture that cannot be read, or a page that would be too large.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP.format(settings=data_settings()))
    return
  options, paths = split_positional(arguments)
  paths = [*(value for name, value in options if name == "images"), *paths]
  options, overrides = split_data_settings([each for each in options if each[0] != "images"])
  known = ("checkpoint", "images", "out", "compare", "layers", "count", "max-megabytes", "weights")
  values = named_options(options, known, related=setting_names())
  if "checkpoint" not in values:
    raise UserError("which model? --checkpoint=DIR|TAG, such as --checkpoint=runs/digits.")
  count = positive_number("count", values["count"]) if "count" in values else None
  megabytes = positive_decimal("max-megabytes", values.get("max-megabytes", str(_MEGABYTES)))
  out = output_file("out", values.get("out", "explore.html"))
  pictures = find_pictures(paths)[:count] if paths else []
  if pictures and overrides:
    raise UserError(f"--images and --config.{overrides[0][0]} both name images; leave one of them out.")
  # Imported here: --help and mistakes do without.
  from convattn import inference, viz
  from convattn.commands.counting import Counting

  restored = inference.restore_classifier(values["checkpoint"], weights=values.get("weights"))
  compare = inference.restore_classifier(values["compare"]) if "compare" in values else None
  plan = viz.plan_page(
    restored,
    compare,
    layers=values.get("layers"),
    megabytes=megabytes,
    count=len(pictures) or count,
    most=_COUNT,
  )
  examples = _read(restored, pictures) if pictures else _chosen(restored, overrides, plan.count)
  with Counting(viz.num_parts(plan.states, compare), "parts") as counting:
    page = viz.exploration(
      restored, examples, layers=plan.layers, states=plan.states, compare=compare, advance=counting.advance
    )
  page.write(out)
  print("\n".join(report(out, page.manifest["lines"], [*plan.notes, *larger(out, megabytes)])))


PAGE = "explore.html"
"""In a workdir."""


def page_of_run(workdir: Path, count: int) -> Path:
  """Writes the page of a run in its workdir, on at most `count` images of its own test part, and returns its path.

  Raises:
    UserError: a damaged or foreign checkpoint, data that are not there, or a page that would be too large.
  """
  from convattn import inference, viz

  restored = inference.restore_classifier(workdir)
  plan = viz.plan_page(restored, megabytes=_MEGABYTES, most=count)
  examples = _chosen(restored, (), plan.count)
  return viz.exploration(restored, examples, layers=plan.layers, states=plan.states).write(workdir / PAGE)


def larger(path: Path, megabytes: float) -> list[str]:
  """What is said of a page that came out larger than was counted before it was made: nothing where it did not."""
  size = path.stat().st_size / 1e6
  if size <= megabytes:
    return []
  wanted = f"more than --max-megabytes={megabytes:g}, by which its size was estimated"
  return [f"the page has {size:.1f} MB, {wanted}; for a smaller one give fewer --layers or a lower --count"]


def report(path: Path, lines: Sequence[str], notes: Sequence[str]) -> list[str]:
  """What is said of a page that was written."""
  size = f"{printable(str(path))}  {path.stat().st_size / 1e6:.1f} MB"
  return [size, *(printable(line) for line in lines), *(f"note: {note}" for note in notes)]


def _read(restored: Classifier, pictures: Sequence[Path]) -> Examples:
  """The pictures as the model takes them.

  Raises:
    UserError: one of them cannot be read.
  """
  import numpy as np

  from convattn.inference import Examples
  from convattn.pretrained.picture_files import open_picture

  pixels = np.stack([restored.preprocessing.pixels(open_picture(path)) for path in pictures])
  names = tuple(path.name for path in pictures)
  return Examples(pixels, names, None, f"{counted(len(pictures), 'picture')}, whose classes are not known")


def _chosen(restored: Classifier, overrides: Sequence[tuple[str, str]], count: int) -> Examples:
  """Images of the data that go with the model."""
  from convattn.commands.counting import Counting
  from convattn.inference.choosing import num_looked_at, telling_examples

  _, dataset, _ = load_data(restored, overrides)
  with Counting(num_looked_at(dataset, count)) as counting:
    return telling_examples(restored, dataset, count, advance=counting.advance)
