"""The most confident mistakes: what the pictures look like, what they are and what they are taken for."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convattn.analysis.names import labels
from convattn.training.records import array_from_json
from convattn.viz.fonts import families
from convattn.viz.style import LIGHT

_COLUMNS = 4
_LETTERS = 14
"""Of a class name that have room under a picture, on a figure that can be read on a telephone."""
_FLAT = 6
"""A picture so many times as long as it is high, or as high as it is long, is stretched to a square."""


@dataclasses.dataclass(frozen=True, eq=False)
class Mistakes:
  """What a mistakes.json holds, the most confident first.

  Attributes:
    probability: float [k], of the class that it was taken for.
    true, predicted: integers [k].
    pictures: uint8 [k, h, w, c].
    class_names: of all classes.
  """

  probability: np.ndarray
  true: np.ndarray
  predicted: np.ndarray
  pictures: np.ndarray
  class_names: tuple[str, ...]


def read_mistakes(path: Path) -> Mistakes:
  """The mistakes in a mistakes.json.

  Raises:
    ValueError: it holds something else.
  """
  try:
    content = json.loads(path.read_text())
    pictures, names = array_from_json(content["pictures"]), tuple(map(str, content["class_names"]))
    score, true, predicted = (np.array(content[name], kind) for name, kind in _LISTS.items())
    if pictures.ndim != 4 or not len(pictures) == len(score) == len(true) == len(predicted):
      raise ValueError("its lists have other lengths than there are pictures")
    if len(true) and not 0 <= min(true.min(), predicted.min()) <= max(true.max(), predicted.max()) < len(names):
      raise ValueError("a class has no name")
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{path} does not hold mistakes and their pictures: {type(error).__name__} {error}.") from error
  return Mistakes(score, true, predicted, pictures, names)


_LISTS: dict[str, Any] = {"score": float, "true": int, "predicted": int}


def mistakes_figure(found: Mistakes, wrong: int | None = None, total: int | None = None) -> Figure:
  """A picture for each mistake; below it the true class, the class it was taken for, and the probability of that.

  Pictures of one channel are grey, of three RGB, of others the mean of their channels; of one row or column they are
  curves, a line for each channel, and very flat ones are stretched. Without mistakes the figure says that there are
  none. Letters that no font of this machine has are boxes.

  Args:
    found: what is drawn.
    wrong: how many mistakes there are in all, where that is known.
    total: of how many pictures.
  """
  count, (height, width) = len(found.true), found.pictures.shape[1:3]
  if not count:
    figure = Figure(figsize=(5, 0.5), layout="constrained")
    none = "no test image" if total is None else f"none of {total:,} test images"
    figure.suptitle(f"{none} is taken for another class", fontsize=10)
    return figure
  rows, side = -(-count // _COLUMNS), 1.15 if _is_flat(height, width) else 1.15 * min(height / width, 1.5)
  figure = Figure(figsize=(5, 0.55 + (side + 0.6) * rows), layout="constrained")
  grid = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
  names = labels(found.class_names, _LETTERS)
  style: dict[str, Any] = {"family": families(shown_names(found))[0], "parse_math": False, "usetex": False}
  for axes, picture, true, predicted, probability in zip(
    grid, found.pictures, found.true, found.predicted, found.probability, strict=False
  ):
    _draw(axes, picture)
    axes.set_xlabel(f"{names[true]}\nas {names[predicted]}\n{_percent(probability)}", fontsize=9, **style)
  for axes in grid[count:]:
    axes.set_axis_off()
  which = f"the {count} most confident of {wrong:,}" if wrong is not None and wrong > count else f"{count}"
  of_all = "" if total is None else f" in {total:,} test images"
  mistakes = f"{which} mistake{'s' * ((wrong or count) != 1)}{of_all}"
  figure.suptitle(f"{mistakes}\neach: its class, what it was taken for, how surely", fontsize=10)
  return figure


def shown_names(found: Mistakes) -> Sequence[str]:
  """The names in the figure, as they are shown there."""
  names = labels(found.class_names, _LETTERS)
  return [names[each] for each in sorted({*found.true.tolist(), *found.predicted.tolist()})]


def _percent(probability: float) -> str:
  # Of 0.9996 one does not say 100 %.
  return ">99.9%" if 0.999 < probability < 1 else f"{probability:.1%}"


def _is_flat(height: int, width: int) -> bool:
  return max(height, width) >= _FLAT * min(height, width)


def _draw(axes: Axes, picture: np.ndarray) -> None:
  axes.set_xticks([])
  axes.set_yticks([])
  axes.spines[:].set_color(LIGHT)
  height, width, channels = picture.shape
  if min(height, width) == 1:
    axes.plot(picture.reshape(-1, channels), linewidth=1.2)
    axes.set_ylim(-10, 265)
    axes.set_box_aspect(1)
    return
  image = picture if channels == 3 else picture.mean(-1)
  stretched = _is_flat(height, width)
  axes.imshow(image, cmap="gray", vmin=0, vmax=255, aspect="auto" if stretched else "equal")
  if stretched:
    axes.set_box_aspect(1)
