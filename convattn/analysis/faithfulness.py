"""Whether the cells that an overlay calls important are those that the model needs: insertion and deletion."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.analysis.attention_map import Grid
from convattn.analysis.calling import checked_images, chosen_classes, compiled, in_pieces, infer, pixels_of
from convattn.analysis.hiding import FILLS
from convattn.analysis.intervals import Interval, mean_interval
from convattn.analysis.overlay import Overlay, cells_of_pixels

MEASURES = ("insertion", "deletion")
"""Large is good, small is good."""

MAPS = ("overlay", "random", "centre")
"""The overlay itself, orders that were drawn, and a Gaussian around the middle of the image that knows no model."""

CENTRE = 1 / 4
"""Standard deviation of that Gaussian, in heights and widths of the image."""


@dataclasses.dataclass(frozen=True, eq=False)
class Faithfulness:
  """Curves of one overlay and of what it has to be better than.

  Attributes:
    overlay: its name.
    classes: int64 [b], whose probability was measured.
    shares: float64 [steps + 1], of the cells that are inserted or deleted, from 0 to 1.
    curves: float32 [MEASURES, FILLS, MAPS, b, steps + 1], the probability of the class; "random" is the mean of all
      that were drawn.
  """

  overlay: str
  classes: np.ndarray
  shares: np.ndarray
  curves: np.ndarray

  def areas(self, measure: str, fill: str, which: str = "overlay") -> np.ndarray:
    """float64 [b], from 0 to 1: the area under each image's curve, by trapezoids.

    Raises:
      ValueError: a name that is none of MEASURES, FILLS or MAPS.
    """
    places = []
    for name, names in ((measure, MEASURES), (fill, tuple(FILLS)), (which, MAPS)):
      if name not in names:
        raise ValueError(f"{name!r} is none of {', '.join(names)}.")
      places.append(names.index(name))
    return np.trapezoid(self.curves[tuple(places)].astype(np.float64), self.shares, axis=-1)

  def score(self, measure: str, fill: str, which: str = "overlay") -> Interval:
    """The mean area over the images and its bootstrap interval."""
    return mean_interval(self.areas(measure, fill, which))

  def gain(self, measure: str, fill: str, over: str) -> Interval:
    """By how much the overlay is better than the map `over`, image by image; an interval above 0 says that it is."""
    sign = 1 if measure == "insertion" else -1
    return mean_interval(sign * (self.areas(measure, fill) - self.areas(measure, fill, over)))


def faithfulness(
  model: nn.Module,
  variables: Any,
  images: Any,
  overlay: Overlay,
  *,
  steps: int = 16,
  num_random: int = 8,
  classes: Any = None,
  seed: int = 0,
) -> Faithfulness:
  """Insertion and deletion curves of an overlay under three fills, beside random maps and a Gaussian of the middle.

  Cells are taken in the order of their values, the largest first, and of equals in an order that is drawn. Deletion
  replaces them with the fill, share by share, insertion replaces all others; after each of `steps` equal steps the
  probability of the class is noted. Random and centre maps are of the same cells. A fill shows the model images that
  it was never trained on, each of another kind: an overlay that is good under one alone is not to be believed.

  The model is called (steps + 1) * 2 * 3 * (num_random + 2) times an image, a few at a time.

  Source: Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, section 3.3;
  fills: `hiding.FILLS`.

  Args:
    model: any module that puts out logits [b, classes], called for inference.
    images: floating point [b, h, w, c], as the model takes them; those of the overlay.
    overlay: its values are made of these images.
    steps: at most; fewer where there are fewer cells.
    num_random: orders that are drawn for each image.
    classes: a class for all images, or integers [b]; None: the overlay's, or those that the model predicts.
    seed: of orders and noise.

  Raises:
    ValueError: images, overlay or classes that do not fit each other, or no steps or no random map.
  """
  images = checked_images(images)
  if overlay.grid.image != images.shape[1:3] or len(overlay.values) != len(images):
    ours, theirs = (len(images), *images.shape[1:3]), (len(overlay.values), *(overlay.grid.image or ()))
    raise ValueError(f"the overlay must be of these images, {ours} of count, height and width, but is of {theirs}.")
  if steps < 1 or num_random < 1:
    raise ValueError(f"steps is {steps} and num_random {num_random}, but both must be at least 1.")
  chosen = chosen_classes(model, variables, images, overlay.classes if classes is None else classes)
  draws = np.random.default_rng(seed)
  fillings = np.stack([fill(images, draws) for fill in FILLS.values()])
  taken = np.round(np.linspace(0, overlay.grid.cells, min(steps, overlay.grid.cells) + 1)).astype(np.int32)
  curves = []
  for number, image in enumerate(images):
    orders = _orders(overlay, number, num_random, draws)
    measured = [_curves(model, variables, image, each[number], orders, taken) for each in fillings]
    found = np.stack(measured)[..., chosen[number]]
    # [fills, maps, measures, steps + 1], with the drawn maps between the overlay and the centre
    mean = found[:, 1:-1].mean(1, keepdims=True)
    curves.append(np.concatenate([found[:, :1], mean, found[:, -1:]], 1))
  return Faithfulness(
    overlay=overlay.name,
    classes=chosen,
    shares=taken / overlay.grid.cells,
    curves=np.stack(curves).transpose(3, 1, 2, 0, 4),
  )


def centre_map(grid: Grid, count: int = 1) -> Overlay:
  """A Gaussian around the middle of the image, the same for `count` images and every model.

  Raises:
    ValueError: the grid has no image.
  """
  if grid.image is None:
    raise ValueError("the grid has no image, so it has no middle.")
  size = np.asarray(grid.image)
  away = (grid.centres() - size / 2) / (CENTRE * size)
  values = np.exp(-(away**2).sum(-1) / 2).reshape(1, grid.height, grid.width)
  return Overlay(
    name="centre",
    grid=grid,
    values=np.repeat(values, count, 0).astype(np.float32),
    note="nearness to the middle of the image, whatever is in it",
    exact=True,
  )


def _orders(overlay: Overlay, number: int, num_random: int, draws: np.random.Generator) -> np.ndarray:
  """int32 [maps, h, w]: of the overlay, the drawn ones and the centre, how many cells are taken before each pixel's."""
  grid = overlay.grid
  flat = np.zeros(grid.cells)
  values = [overlay.values[number].ravel(), *([flat] * num_random), centre_map(grid).values.ravel()]
  cells = cells_of_pixels(grid)
  orders = []
  for each in values:
    # The last key counts first.
    order = np.lexsort((draws.random(grid.cells), -each.astype(np.float64)))
    places = np.empty(grid.cells + 1, np.int32)
    places[order] = np.arange(grid.cells)
    places[-1] = grid.cells - 1  # pixels without a cell come last
    orders.append(places[cells])
  return np.stack(orders)


def _curves(
  model: nn.Module, variables: Any, image: np.ndarray, filling: np.ndarray, orders: np.ndarray, taken: np.ndarray
) -> np.ndarray:
  """float32 [maps, MEASURES, steps + 1, classes] of one image: probabilities."""
  shape = (len(orders), len(MEASURES), len(taken))
  which, measures, steps = (axis.ravel().astype(np.int32) for axis in np.indices(shape))

  def probabilities(which: np.ndarray, deleted: np.ndarray, taken: np.ndarray) -> jax.Array:
    return _probabilities(model, variables, image, filling, orders, which, deleted, taken)

  deleted = measures == MEASURES.index("deletion")
  found = in_pieces(probabilities, which, deleted, taken[steps], pixels=pixels_of(image[None]))
  return found.reshape(*shape, -1)


@compiled()
def _probabilities(
  model: nn.Module, variables: Any, image: Any, filling: Any, orders: Any, which: Any, deleted: Any, taken: Any
) -> jax.Array:
  """float32 [n, classes] of an image [h, w, c] whose first cells are hidden, or where not `deleted` all others."""
  first = orders[which] < taken[:, None, None]
  hidden = (first == deleted[:, None, None])[..., None]
  logits = infer(model, variables, jnp.where(hidden, filling[None], image[None]))
  return jax.nn.softmax(logits.astype(jnp.float32))
