"""What a model costs, as tables of text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from convattn.analysis.costs import Cost, by_stage, costs, costs_of_call
from convattn.analysis.memory import memory
from convattn.models import CoAtNet


def columns(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
  """Lines with the cells under each other, the first `left` columns flush left, the others flush right."""
  widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
  lines = []
  for row in rows:
    spaces = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
    cells = [
      cell + space if i < left else space + cell for i, (cell, space) in enumerate(zip(row, spaces, strict=True))
    ]
    lines.append("  " + "  ".join(cells).rstrip())
  return lines


def _width(text: str) -> int:
  """Places of a terminal: two for a letter of Chinese, Japanese or Korean, none for an accent of its own."""
  if text.isascii():
    return len(text)
  return sum(0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF") for each in text)


def model_costs(model: nn.Module, example_inputs: Any) -> list[Cost] | None:
  """`costs_of_call`; None of a model that cannot be traced in its call with `train=False`."""
  try:
    return costs_of_call(model, example_inputs)
  # Whatever a module of the user's raises: no run ends for want of a table.
  except Exception:
    return None


def model_table(rows: list[Cost] | None, params: Any) -> str:
  """`cost_table` of the `model_costs`, or `parameter_table` where there are none."""
  return parameter_table(params) if rows is None else cost_table(rows)


def parameter_table(params: Any) -> str:
  """The number of parameters of each top-level part, in the order of the model's names, and their sum."""
  parts = {
    name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in sorted(params.items(), key=_natural)
  }
  parts["total"] = sum(parts.values())
  return "\n".join(columns([(name, f"{count:,}") for name, count in parts.items()]))


def _natural(item: tuple[str, Any]) -> tuple[str, int]:
  # stage_10 comes after stage_9.
  stem = item[0].rstrip("0123456789")
  return stem, int(item[0][len(stem) :] or 0)


def cost_table(rows: Sequence[Cost]) -> str:
  """Output, parameters and multiply-adds of each part, blocks added up to stages, and their sums."""
  stages = by_stage(rows)
  return _with_sums(stages, [(row.parameters, row.multiply_adds) for row in stages])


def summary_table(model: nn.Module, image_shape: tuple[int, int, int], batch_size: int) -> str:
  """`cost_table` with activations and, for a CoAtNet, its memory in MiB (`memory`) for a batch of that size."""
  rows = by_stage(costs(model, image_shape))
  counts: list[tuple[int, ...]] = [(row.parameters, row.multiply_adds, row.activations) for row in rows]
  if isinstance(model, CoAtNet):
    held = by_stage(memory(model, image_shape))
    counts = [(*each, row.parameters, row.kept(batch_size)) for each, row in zip(counts, held, strict=True)]
  return _with_sums(rows, counts)


_NAMES = ("parameters", "multiply-adds", "activations", "params MiB", "kept MiB")


def _with_sums(rows: Sequence[Cost], counts: Sequence[tuple[int, ...]]) -> str:
  """A line for each row with the first so many of _NAMES, and one with their sums."""
  lines = [(row.name, " × ".join(map(str, row.output))) for row in rows]
  numbers = [*counts, tuple(map(sum, zip(*counts, strict=True)))]
  cells = [(*line, *_shown(each)) for line, each in zip([*lines, ("total", "")], numbers, strict=True)]
  return "\n".join(columns([("part", "output", *_NAMES)[: len(cells[0])], *cells], left=2))


def _shown(numbers: Sequence[int]) -> list[str]:
  return [f"{number:,}" for number in numbers[:3]] + [f"{number / 2**20:,.2f}" for number in numbers[3:]]
