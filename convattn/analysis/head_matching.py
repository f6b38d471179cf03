"""Heads of several seeds: which of one is which of another, and their numbers over the seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from convattn.analysis.head_report import HeadReport
from convattn.analysis.head_shape import entropy

_IMAGES_AND_GRIDS = ("layer", "query_grid", "key_grid", "num_images")
_OF_THE_LAYER = ("tap_residual",)
_OF_PAIRS = ("divergence",)


@dataclasses.dataclass(frozen=True, eq=False)
class HeadMatching:
  """Which heads of one layer belong together in several seeds.

  Attributes:
    layer: path of the module.
    order: int64 [seeds, heads]; order[s, h] is the head of seed s that is head h of the first one.
    distance: float64 [seeds, heads], how far each is from head h of the first seed: Jensen-Shannon divergence in units
      of log 2, 0: alike, 1: nothing in common.
    unmatched: float64 [seeds], the mean distance of all heads from all of the first seed. Where `distance` is not
      clearly smaller (the best of all permutations always is a little), there is nothing that heads could be told by,
      and a mean over seeds is one over unlike heads.
  """

  layer: str
  order: np.ndarray
  distance: np.ndarray
  unmatched: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class MeanReport:
  """The numbers of matched heads over seeds.

  Attributes:
    mean: each number's mean; `degenerate` is a share of seeds, `peak_shift` need not be whole.
    deviation: each number's standard deviation over seeds, with n - 1.
    matching: which heads were taken together.
  """

  mean: HeadReport
  deviation: HeadReport
  matching: HeadMatching


def match_heads(seeds: Sequence[Sequence[HeadReport]]) -> list[HeadMatching]:
  """A `HeadMatching` of each layer: every seed's heads are assigned to those of the first.

  The assignment is the one with the smallest sum of divergences between shift profiles (`HeadReport.profile_mass`), of
  all permutations. Profiles are compared because they need neither the same images nor the same weights; heads that
  differ in what they look for, and not in where they look, are not told apart.

  Args:
    seeds: of each seed what `head_report` says of the same layers, with as many images of the same size.

  Raises:
    ValueError: fewer than two seeds, or layers, grids or numbers of heads or images that differ between them.
  """
  if len(seeds) < 2:
    raise ValueError(f"heads are matched between seeds: give the reports of 2 or more, got {len(seeds)}.")
  for number, reports in enumerate(seeds[1:], 1):
    for given, wanted in zip(_kinds(reports), _kinds(seeds[0]), strict=False):
      if given != wanted:
        raise ValueError(f"seed {number} has {given} where seed 0 has {wanted}; give equal layers and image sizes.")
    if len(reports) != len(seeds[0]):
      raise ValueError(f"seed {number} has {len(reports)} layers, seed 0 has {len(seeds[0])}; give equal ones.")
  return [_matching([reports[layer] for reports in seeds]) for layer in range(len(seeds[0]))]


def _kinds(reports: Sequence[HeadReport]) -> list[str]:
  """What must agree between seeds, of each layer."""
  kinds = []
  for report in reports:
    grids = (report.query_grid, report.key_grid)
    queries, keys = (f"{grid.height}×{grid.width} of stride {'×'.join(map(str, grid.stride))}" for grid in grids)
    counts = f"{report.num_heads} heads, {report.num_images} images"
    kinds.append(f"{report.layer}: {counts}, queries {queries}, keys {keys}")
  return kinds


def _matching(seeds: Sequence[HeadReport]) -> HeadMatching:
  costs = [profile_divergence(seeds[0].profile_mass, report.profile_mass) for report in seeds]
  # The first seed stays as it is, also where two of its heads are alike.
  heads = np.arange(seeds[0].num_heads)
  order = np.stack([heads, *(linear_sum_assignment(cost)[1] for cost in costs[1:])])
  distance = np.stack([cost[heads, of] for cost, of in zip(costs, order, strict=True)])
  return HeadMatching(seeds[0].layer, order, distance, np.asarray([cost.mean() for cost in costs]))


def profile_divergence(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """float64 [m, n]: Jensen-Shannon divergence in units of log 2 between distributions [m, ...] and [n, ...]."""
  one, other = (np.nan_to_num(each).reshape(len(each), -1) for each in (one, other))
  mixed = np.stack([entropy((each + other) / 2) for each in one])
  return np.maximum(mixed - (entropy(one)[:, None] + entropy(other)) / 2, 0) / np.log(2)


def mean_report(seeds: Sequence[Sequence[HeadReport]]) -> list[MeanReport]:
  """Mean and deviation over seeds of every number of every layer, of heads that `match_heads` put together.

  Raises:
    ValueError: as `match_heads`.
  """
  return [_mean([each[i] for each in seeds], matching) for i, matching in enumerate(match_heads(seeds))]


def _mean(seeds: Sequence[HeadReport], matching: HeadMatching) -> MeanReport:
  ordered = [reorder(report, order) for report, order in zip(seeds, matching.order, strict=True)]
  names = [field.name for field in dataclasses.fields(HeadReport) if field.name not in _IMAGES_AND_GRIDS]
  values = {name: np.stack([getattr(report, name) for report in ordered]) for name in names}
  mean = {name: each.mean(0) for name, each in values.items()}
  deviation = {name: each.std(0, ddof=1) for name, each in values.items()}
  return MeanReport(dataclasses.replace(seeds[0], **mean), dataclasses.replace(seeds[0], **deviation), matching)


def reorder(report: HeadReport, order: np.ndarray) -> HeadReport:
  """The report with head order[h] in place h."""
  changed = {}
  for field in dataclasses.fields(HeadReport):
    if field.name in _OF_PAIRS:
      changed[field.name] = getattr(report, field.name)[np.ix_(order, order)]
    elif field.name not in (*_IMAGES_AND_GRIDS, *_OF_THE_LAYER):
      changed[field.name] = getattr(report, field.name)[order]
  return dataclasses.replace(report, **changed)
