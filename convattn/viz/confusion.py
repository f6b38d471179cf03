"""Which classes are taken for which."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, PercentFormatter

from convattn.analysis.names import labels
from convattn.viz.fonts import families
from convattn.viz.style import INK

_WITH_NUMBERS = 30
"""Up to so many classes a cell has room for its count, and an axis for every name."""

_ROOT = 0.5
"""Power of the colour scale."""


def read_confusion(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
  """(counts [true class, predicted class], class names) of a confusion.json.

  Raises:
    FileNotFoundError: no such file.
    ValueError: it does not hold counts and as many names.
  """
  if not path.exists():
    raise FileNotFoundError(f"there is nothing to draw: {path} is missing; a run writes it when it has ended.")
  try:
    content = json.loads(path.read_text())
    counts, names = np.array(content["counts"]), tuple(map(str, content["class_names"]))
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{path} does not hold counts and class_names: {type(error).__name__} {error}.") from error
  _check(counts, names)
  return counts, names


def _check(counts: np.ndarray, class_names: Sequence[str]) -> None:
  if counts.shape != (len(class_names),) * 2:
    raise ValueError(
      f"counts must be [true class, predicted class], one row and column for each of the {len(class_names)} class "
      f"names, got shape {counts.shape}."
    )


def missing_letters(class_names: Sequence[str]) -> str:
  """Letters of the names that no font of this machine has."""
  return families(labels(class_names))[1]


def confusion_figure(counts: np.ndarray, class_names: Sequence[str]) -> Figure:
  """A cell for each pair of true (down) and predicted (across) class, with its count.

  Its colour is the share of the row: count / number of examples of the true class, 0 where there are none. The scale is
  a root, so that one mistake in forty can be seen. No sign in a name is taken for mathematics; letters that no font of
  this machine has are boxes (`missing_letters`).

  Args:
    counts: integers [c, c], rows are true classes.
    class_names: c names.

  Raises:
    ValueError: counts and names do not fit.
  """
  _check(counts, class_names)
  totals = counts.sum(axis=1, keepdims=True)
  shares = counts / np.maximum(totals, 1)
  number = len(class_names)
  names = labels(class_names)
  longest = max(map(len, names))
  side = min(3.4 + 0.42 * number, 14.0) + 0.09 * max(0, longest - 10)
  figure = Figure(figsize=(side + 0.6, side), layout="constrained")
  axes = figure.subplots()
  image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(_ROOT, vmin=0, vmax=1))
  every = -(-number // _WITH_NUMBERS)
  ticks = range(0, number, every)
  shown = [names[i] for i in ticks]
  style: dict[str, Any] = {"family": families(shown)[0], "parse_math": False, "usetex": False}
  axes.set_xticks(ticks, shown, rotation=90 if longest > 3 else 0, **style)
  axes.set_yticks(ticks, shown, **style)
  axes.tick_params(length=0, labelsize=9)
  axes.spines[:].set_visible(False)
  axes.set_xlabel("predicted")
  axes.set_ylabel("true")
  total, right = int(counts.sum()), int(np.trace(counts))
  title = f"{right:,} of {total:,} right ({right / max(total, 1):.2%})"
  axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
  if number <= _WITH_NUMBERS:
    for (row, column), count in np.ndenumerate(counts):
      dark = shares[row, column] ** _ROOT > 0.55
      color = "white" if dark else INK if count else "#b8c1c9"
      axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=9, color=color)
  bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, format=PercentFormatter(1, decimals=0))
  bar.locator = FixedLocator([0, 0.01, 0.05, 0.2, 0.5, 1])
  bar.update_ticks()
  bar.set_label("share of the true class")
  bar.outline.set_visible(False)
  return figure
