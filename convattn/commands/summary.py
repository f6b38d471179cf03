"""The summary command: what a model costs, stage by stage, without making its variables."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convattn.commands.options import named_options, pixels, positive_number, split_positional
from convattn.errors import UserError
from convattn.fields import choices
from convattn.training.config import Compute

if TYPE_CHECKING:
  import flax.linen as nn

_HELP = """convattn summary NAME|TAG|DIR [--image_size=H|HxW] [--num_classes=1000] [--dtype=float32] [--remat=none]
                 [--batch_size=1]

  NAME|TAG|DIR   a model such as coatnet_2, a tag of released weights (nothing is downloaded), or a run's workdir
  --image_size   pixels, one number or height x width (default: what the model is made for, 224 if for any size)
  --num_classes  width of the logits; 0 leaves the last dense layer out (default: the tag's or the run's, else 1000)
  --dtype        of the computation: float32 or bfloat16
  --remat        what the backward pass computes again: none, block or dots
  --batch_size   images in a training step

  parameters     learnable numbers
  multiply-adds  of convolutions, dense layers and attention's two products, per image
  activations    numbers that the same operations put out, per image
  params MiB     the parameters' memory; the columns of MiB are there for a CoAtNet alone
  kept MiB       what a training step on the batch keeps of its forward pass for the backward pass, as autodiff asks for
                 it; gradients, optimizer state and working space come on top, and XLA may keep less"""

_FLAT = {"patch": (16, 80), "row": (1, 40)}
"""What a model's name begins with -> (height, width) it is made for: those of data/distant_marks.py and mnist1d.py."""

_OPTIONS = ("image_size", "num_classes", "dtype", "remat", "batch_size")


def run(arguments: Sequence[str]) -> None:
  """Prints the table.

  Raises:
    UserError: a wrong argument; a name that is no model, tag or run, with the nearest.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP)
    return
  from convattn.analysis import summary_table

  options, names = split_positional(arguments)
  values = named_options(options, _OPTIONS)
  if len(names) != 1:
    raise UserError(f"name one model, tag or run, such as convattn summary coatnet_2; got {' '.join(names) or 'none'}.")
  size = pixels("image_size", values["image_size"]) if "image_size" in values else None
  batch_size = positive_number("batch_size", values.get("batch_size", "1"))
  changes = _changes(values)
  model, its_size, channels = _find(names[0])
  missing = [name for name in changes if not hasattr(model, name)]
  if missing:
    raise UserError(
      f"--{missing[0]} is for models with such a field, but {type(model).__name__} has none; leave it out."
    )
  model = model.clone(**changes)
  height, width = size or its_size
  print(" | ".join([names[0], f"{height} × {width} × {channels}", *_described(model), _images(batch_size)]))
  print(summary_table(model, (height, width, channels), batch_size))


def _changes(values: dict[str, str]) -> dict[str, Any]:
  """Fields of the model that the options set."""
  changes: dict[str, Any] = {name: values[name] for name in ("dtype", "remat") if name in values}
  for name in changes:
    words = choices(Compute, name)
    if changes[name] not in words:
      raise UserError(f"--{name} must be one of {', '.join(words)}, got {changes[name]!r}.")
  if "num_classes" in values:
    text = values["num_classes"]
    changes["num_classes"] = 0 if text == "0" else positive_number("num_classes", text)
  return changes


def _find(name: str) -> tuple[nn.Module, tuple[int, int], int]:
  """(model, (height, width) it is made for, channels of its images)."""
  from convattn.models import create_model, list_models
  from convattn.pretrained.tags import TAGS, find_tags

  if name not in list_models():
    if Path(name).expanduser().exists() or os.sep in name:
      from convattn import training

      restored = training.restore_classifier(name)
      return restored.model, restored.preprocessing.image_size, len(restored.preprocessing.mean)
    if "." in name:
      (row,) = find_tags(name)
      model = create_model(row.architecture, row.num_classes)
      return model, row.preprocessing.image_size, len(row.preprocessing.mean)
  model = create_model(name)
  sizes = [row.preprocessing.image_size for row in TAGS if row.architecture == name]
  small = re.search(r"_(?:mini_)?(8|28|32)(?:x8)?$", name)
  flat = _FLAT.get(name.partition("_")[0])
  return model, (sizes or [(int(small[1]),) * 2 if small else flat or (224, 224)])[0], 3


def _described(model: nn.Module) -> list[str]:
  """What the model says of itself; a module of the user's may have none of these fields."""
  import jax.numpy as jnp

  shown = {
    "num_classes": lambda number: f"{number} classes",
    "dtype": lambda dtype: jnp.dtype(dtype).name,
    "remat": lambda remat: f"remat {remat}",
  }
  return [show(getattr(model, name)) for name, show in shown.items() if getattr(model, name, None) is not None]


def _images(number: int) -> str:
  return f"{number} image{'s' if number > 1 else ''}"
