"""Every number about the heads of a model's attention layers, and those numbers as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from convattn.analysis.attention_map import AttentionMap, Grid
from convattn.analysis.head_convolution import TAPS, convolution_peak, shift_consistency, shift_profile, tap_residuals
from convattn.analysis.head_differences import content_dependence, head_divergence
from convattn.analysis.head_shape import (
  attention_distance,
  attention_entropy,
  degenerate,
  local_mass,
  prefix_mass,
  shift_moments,
)
from convattn.analysis.tables import columns


@dataclasses.dataclass(frozen=True, eq=False)
class HeadReport:
  """The heads of one layer in numbers: float64 arrays whose first axis is the head, but for `tap_residual`.

  Shifts are key - query, row and column, in key cells. Prefix tokens are left out and what remains of a row counts as
  the whole; `prefix_mass` says how much that leaves aside. Weights that are not from a softmax may be negative; where
  shares of a row are meant, it is shares of their absolute values. Where queries and keys lie in no common image, as
  words and pixels, there are no shifts, and what is said of them is nan.

  Attributes:
    layer: path of the module.
    query_grid, key_grid: as in `AttentionMap`.
    num_images: how many were looked at.
    distance: see `attention_distance`; in pixels.
    entropy: see `attention_entropy`; 0: one key, 1: all keys alike.
    centre, covariance: see `shift_moments`; [heads, 2] and [heads, 2, 2]. Of interior queries.
    degenerate: see `degenerate`; 0 or 1, or the share of several seeds.
    profile: see `ShiftProfile.mean`; [heads, 2 r + 1, 2 c + 1], the shift (0, 0) in the middle.
    profile_mass: see `ShiftProfile.mass`.
    peak, peak_shift: see `convolution_peak`; [heads] and [heads, 2].
    consistency: see `shift_consistency`; 1: a function of the shift. Of interior queries.
    local_mass: see `local_mass`; the share on 3x3 cells.
    content_dependence: see `content_dependence`; in nats, nan of a single image.
    divergence: see `head_divergence`; [heads, heads].
    prefix_mass: see `prefix_mass`.
    tap_residual: see `tap_residuals`; [3, 3], of the layer: 0 where its heads make up that tap. Of interior queries.
  """

  layer: str
  query_grid: Grid
  key_grid: Grid
  num_images: int
  distance: np.ndarray
  entropy: np.ndarray
  centre: np.ndarray
  covariance: np.ndarray
  degenerate: np.ndarray
  profile: np.ndarray
  profile_mass: np.ndarray
  peak: np.ndarray
  peak_shift: np.ndarray
  consistency: np.ndarray
  local_mass: np.ndarray
  content_dependence: np.ndarray
  divergence: np.ndarray
  prefix_mass: np.ndarray
  tap_residual: np.ndarray

  @property
  def num_heads(self) -> int:
    return len(self.distance)

  @property
  def centre_pixels(self) -> np.ndarray:
    return self.centre * np.asarray(self.key_grid.stride)

  @property
  def covariance_pixels(self) -> np.ndarray:
    return self.covariance * np.outer(self.key_grid.stride, self.key_grid.stride)

  @property
  def nonlocality(self) -> float:
    """The mean distance of the heads, in pixels."""
    return float(self.distance.mean())

  @property
  def diversity(self) -> float:
    """The mean divergence of two heads: 0 where all are alike, and all but one redundant; nan of one head."""
    pairs = np.triu_indices(self.num_heads, 1)
    return float(self.divergence[pairs].mean()) if self.num_heads > 1 else float("nan")


def head_report(maps: Iterable[AttentionMap]) -> list[HeadReport]:
  """The `HeadReport` of each layer, in their order.

  It looks at one block of queries at a time (a few times 16 MiB), and at one layer at a time: maps may be a generator.

  Raises:
    ValueError: a map without images or queries, whose arrays do not fit its grids, or with weights that are not finite.
  """
  return [_report(layer) for layer in maps]


def _report(layer: AttentionMap) -> HeadReport:
  if 0 in layer.probabilities.shape:
    raise ValueError(f"{layer.layer} has weights {list(layer.probabilities.shape)}, but each axis must be 1 or more.")
  one_place = layer.query_grid.image == layer.key_grid.image
  return HeadReport(
    layer=layer.layer,
    query_grid=layer.query_grid,
    key_grid=layer.key_grid,
    num_images=layer.num_images,
    entropy=attention_entropy(layer),
    content_dependence=content_dependence(layer),
    divergence=head_divergence(layer),
    prefix_mass=prefix_mass(layer),
    **(_of_shifts(layer) if one_place else _of_no_shifts(layer.num_heads)),
  )


def _of_shifts(layer: AttentionMap) -> dict[str, np.ndarray]:
  profile = shift_profile(layer)
  peak, peak_shift = convolution_peak(profile)
  centre, covariance = shift_moments(layer)
  return {
    "distance": attention_distance(layer),
    "centre": centre,
    "covariance": covariance,
    "degenerate": degenerate(covariance, layer.key_grid).astype(np.float64),
    "profile": profile.mean,
    "profile_mass": profile.mass,
    "peak": peak,
    "peak_shift": peak_shift,
    "consistency": shift_consistency(layer),
    "local_mass": local_mass(layer),
    "tap_residual": tap_residuals(layer),
  }


def _of_no_shifts(heads: int) -> dict[str, np.ndarray]:
  """The same, nan all of them."""
  of_a_head = {"centre": (2,), "covariance": (2, 2), "profile": (1, 1), "profile_mass": (1, 1), "peak_shift": (2,)}
  numbers = ("distance", "degenerate", "peak", "consistency", "local_mass")
  shapes = {name: (heads, *shape) for name, shape in of_a_head.items()} | dict.fromkeys(numbers, (heads,))
  return {name: np.full(shape, np.nan) for name, shape in {**shapes, "tap_residual": (TAPS, TAPS)}.items()}


def head_table(reports: Sequence[HeadReport]) -> str:
  """A line for each head: what `HeadReport` says of it. Spread is the square root of the trace of the covariance."""
  rows: list[tuple[str, ...]] = [
    ("layer", "head", "distance", "entropy", "centre", "spread", "peak", "at", "R²", "3×3", "content")
  ]
  for report in reports:
    for head in range(report.num_heads):
      row = (
        _distance(report.distance[head], report.key_grid),
        _number(report.entropy[head]),
        _pair(report.centre[head], "+.1f"),
        _number(np.sqrt(np.trace(report.covariance[head]).clip(0)), ".1f"),
        _number(report.peak[head]),
        _pair(report.peak_shift[head], "+.3g"),
        _number(report.consistency[head]),
        _number(report.local_mass[head]),
        _number(report.content_dependence[head], ".3f"),
      )
      rows.append((report.layer, str(head), *row))
  return "\n".join(columns(rows))


def layer_table(reports: Sequence[HeadReport]) -> str:
  """A line for each layer: its grids, the mean distance of its heads, how many taps of a 3x3 kernel they make up.

  A tap counts as made up where at most 1 % of it is left; the worst residual stands beside. "Apart" is how far apart
  two heads are in the mean, from 0 to 1 (`HeadReport.diversity`).
  """
  rows: list[tuple[str, ...]] = [("layer", "heads", "queries", "keys", "distance", "taps", "worst", "apart", "prefix")]
  for report in reports:
    residual = report.tap_residual[np.isfinite(report.tap_residual)]
    row = (
      *(f"{grid.height}×{grid.width}" for grid in (report.query_grid, report.key_grid)),
      _distance(report.nonlocality, report.key_grid),
      f"{(residual <= 0.01).sum()} of {residual.size}",
      _number(residual.max() if residual.size else np.nan),
      _number(report.diversity),
      _number(report.prefix_mass.mean()),
    )
    rows.append((report.layer, str(report.num_heads), *row))
  return "\n".join(columns(rows))


def _distance(value: float, grid: Grid) -> str:
  return _number(value, ".1f") + (" px" if grid.image and np.isfinite(value) else "")


def _number(value: float, form: str = ".2f") -> str:
  # No -0.0.
  return format(round(float(value), 9) + 0.0, form) if np.isfinite(value) else "-"


def _pair(values: np.ndarray, form: str) -> str:
  return ",".join(_number(value, form) for value in values)
