"""The summary command: what a model costs, stage by stage, without making its variables."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convattn.commands.errors import UsageError, refusing
from convattn.commands.options import named_options, pixels, positive_number, split_positional
from convattn.fields import choices
from convattn.training.config import Compute

if TYPE_CHECKING:
  from convattn.models import CoAtNet

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
  params MiB     the parameters' memory
  kept MiB       what a training step on the batch keeps of its forward pass for the backward pass, as autodiff asks for
                 it; gradients, optimizer state and working space come on top, and XLA may keep less"""

_COLUMNS = ("part", "output", "parameters", "multiply-adds", "activations", "params MiB", "kept MiB")
_OPTIONS = ("image_size", "num_classes", "dtype", "remat", "batch_size")


def run(arguments: Sequence[str]) -> None:
  """Prints the table.

  Raises:
    UsageError: a wrong argument; a name that is no model, tag or run, with the nearest.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP)
    return
  options, names = split_positional(arguments)
  values = named_options(options, _OPTIONS)
  if len(names) != 1:
    raise UsageError(
      f"name one model, tag or run, such as convattn summary coatnet_2; got {' '.join(names) or 'none'}."
    )
  size = pixels("image_size", values["image_size"]) if "image_size" in values else None
  batch_size = positive_number("batch_size", values.get("batch_size", "1"))
  changes = _changes(values)
  model, its_size, channels = _find(names[0])
  model = model.clone(**changes)
  height, width = size or its_size
  print(
    f"{names[0]} | {height} × {width} × {channels} | {model.num_classes} classes | {_dtype_name(model)} | "
    f"remat {model.remat} | {batch_size} image{'s' if batch_size > 1 else ''}"
  )
  print(table(model, (height, width, channels), batch_size))


def _changes(values: dict[str, str]) -> dict[str, Any]:
  """Fields of the model that the options set."""
  changes: dict[str, Any] = {name: values[name] for name in ("dtype", "remat") if name in values}
  for name in changes:
    words = choices(Compute, name)
    if changes[name] not in words:
      raise UsageError(f"--{name} must be one of {', '.join(words)}, got {changes[name]!r}.")
  if "num_classes" in values:
    text = values["num_classes"]
    changes["num_classes"] = 0 if text == "0" else positive_number("num_classes", text)
  return changes


def _find(name: str) -> tuple[CoAtNet, tuple[int, int], int]:
  """(model, (height, width) it is made for, channels of its images)."""
  from convattn.models import create_model, list_models
  from convattn.pretrained.tags import TAGS, find_tags

  with refusing(ValueError, OSError):
    if name not in list_models():
      if Path(name).expanduser().exists() or os.sep in name:
        from convattn import training

        restored = training.restore(name)
        return restored.model, restored.preprocessing.image_size, len(restored.preprocessing.mean)
      if "." in name:
        (row,) = find_tags(name)
        model = create_model(row.architecture, row.num_classes)
        return model, row.preprocessing.image_size, len(row.preprocessing.mean)
    model = create_model(name)
  sizes = [row.preprocessing.image_size for row in TAGS if row.architecture == name]
  small = re.search(r"_mini_(\d+)$", name)
  return model, (sizes or [(int(small[1]),) * 2 if small else (224, 224)])[0], 3


def _dtype_name(model: CoAtNet) -> str:
  import jax.numpy as jnp

  return jnp.dtype(model.dtype).name


def table(model: CoAtNet, image_shape: tuple[int, int, int], batch_size: int) -> str:
  """The stem, each stage and the classifier, and their sums; the columns are those of --help."""
  from convattn.analysis import by_stage, costs, memory

  lines: list[tuple[str, ...]] = [_COLUMNS]
  totals = [0] * 5
  for cost, held in zip(by_stage(costs(model, image_shape)), by_stage(memory(model, image_shape)), strict=True):
    numbers = (cost.parameters, cost.multiply_adds, cost.activations, held.parameters, held.kept(batch_size))
    totals = [total + number for total, number in zip(totals, numbers, strict=True)]
    lines.append((cost.name, " × ".join(map(str, cost.output)), *_shown(numbers)))
  lines.append(("total", "", *_shown(totals)))
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    "  ".join(["", *(f"{cell:{'<' if i < 2 else '>'}{widths[i]}}" for i, cell in enumerate(line))]) for line in lines
  )


def _shown(numbers: Sequence[int]) -> list[str]:
  return [f"{number:,}" for number in numbers[:3]] + [f"{number / 2**20:,.2f}" for number in numbers[3:]]
