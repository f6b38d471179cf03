"""Loss, accuracy and learning rate against the step."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter

from convattn.training.writer import read_metrics
from convattn.viz.style import BLUE, GREY, LIGHT, ORANGE, RULE

Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Metric name -> (steps [n], values [n]); a metric that is not in every line has its own steps."""

_COLORS = {"train": "#9aa5b1", "validation": BLUE, "validation_ema": ORANGE, "test": BLUE, "test_ema": ORANGE}
_NAMES = {"validation_ema": "validation (averaged weights)", "test_ema": "test (averaged weights)"}


def read_curves(path: Path) -> Curves:
  """The numbers of a metrics.jsonl by metric. A null (a number that was not finite) is nan.

  Raises:
    FileNotFoundError: no such file, or it holds no line yet.
    UserError: for a line that a run does not write.
  """
  lines = read_metrics(path)
  points: dict[str, list[tuple[int, float]]] = {}
  for line in lines:
    for name, value in line.items():
      if name != "step":
        points.setdefault(name, []).append((int(line["step"]), np.nan if value is None else float(value)))
  if not lines:
    raise FileNotFoundError(f"there is nothing to draw: {path} is missing or empty; train into this directory first.")
  return {name: (np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])) for name, pairs in points.items()}


def curves_figure(curves: Curves) -> Figure:
  """Three panels, steps across: loss (logarithmic) and accuracy of each split, and the learning rate.

  A metric measured once, as on the test part, is a point. The key gives each split's last accuracy.
  """
  figure = Figure(figsize=(12, 4), layout="constrained")
  loss, accuracy, rate = figure.subplots(1, 3)
  for axes, title in ((loss, "loss"), (accuracy, "accuracy"), (rate, "learning rate")):
    _style(axes, title)
  for split in _COLORS:
    _plot(loss, curves, split, "loss")
    _plot(accuracy, curves, split, "accuracy")
  if "train/learning_rate" in curves:
    rate.plot(*curves["train/learning_rate"], color=GREY, linewidth=1.5)
  loss.set_yscale("log")
  loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
  loss.yaxis.set_minor_locator(NullLocator())
  loss.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
  accuracy.yaxis.set_major_formatter(PercentFormatter(1))
  accuracy.set_ylim(top=1.02)
  rate.set_ylim(bottom=0)
  rate.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
  # One key for both panels, under them, where it hides no point.
  handles = accuracy.lines or loss.lines
  if handles:
    figure.legend(handles=list(handles), loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
  return figure


def _style(axes: Axes, title: str) -> None:
  axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
  axes.set_xlabel("step", color=GREY)
  axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
  axes.grid(axis="y", color=RULE, linewidth=0.8)
  axes.spines[["top", "right"]].set_visible(False)
  axes.spines[["left", "bottom"]].set_color(LIGHT)
  axes.tick_params(colors=GREY, labelsize=9)


def _plot(axes: Axes, curves: Curves, split: str, metric: str) -> None:
  if f"{split}/{metric}" not in curves:
    return
  steps, values = curves[f"{split}/{metric}"]
  label = _NAMES.get(split, split)
  if metric == "accuracy":
    label = f"{label}: {values[-1]:.2%}"
  if split.startswith("test"):
    axes.plot(steps, values, "*", color=_COLORS[split], markersize=11, markeredgecolor="white", zorder=4, label=label)
  elif split == "train":
    axes.plot(steps, values, color=_COLORS[split], linewidth=1.2, label=label)
  else:
    axes.plot(steps, values, "o-", color=_COLORS[split], linewidth=1.6, markersize=3.5, zorder=3, label=label)
