"""What a study found: a dot for each run, the means, and the differences with their intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from convattn.training.workdir import read_json
from convattn.viz.style import BLUE, GREY, LIGHT, RULE


def read_study(path: Path) -> dict[str, Any]:
  """What a study.json holds.

  Raises:
    FileNotFoundError: no such file.
    UserError: it holds something else.
  """
  again = "give the command of the study, which writes it anew."
  found = read_json(path, again)
  if found is None:
    raise FileNotFoundError(f"there is nothing to draw: {path} is missing; {again}")
  return found


def study_figure(result: Mapping[str, Any]) -> Figure:
  """A line for each setting, in the order of the table: to the left its accuracy on the test part, to the right what
  tells it apart from the baseline of its group.

  To the left a pale dot is a run, the stroke their mean. To the right the dot is the difference and the line its
  interval; the baseline is the 0. As wide as a telephone shows legibly.

  Args:
    result: a study.json.

  Raises:
    ValueError: it does not hold what a study writes.
  """
  try:
    lines = _lines(result["settings"])
    number = len(lines)
    figure = Figure(figsize=(6.0, 1.5 + 0.34 * number), layout="constrained")
    accuracy, difference = figure.subplots(1, 2, sharey=True)
    for place, (setting, is_title) in enumerate(lines):
      if not is_title:
        _plot_accuracy(accuracy, place, setting["test"])
        _plot_difference(difference, place, setting)
    _style(accuracy, "test accuracy, %", number)
    _style(difference, "difference, points", number)
    difference.axvline(0, color=LIGHT, linewidth=1.2, zorder=1)
    accuracy.set_yticks(range(number), [setting["group"] if title else setting["name"] for setting, title in lines])
    for label, (_, is_title) in zip(accuracy.get_yticklabels(), lines, strict=True):
      label.set_fontweight("bold" if is_title else "normal")
      label.set_parse_math(False)
    runs = "" if result["finished"] else f" ({result['runs']['ended']} of {result['runs']['all']} runs)"
    figure.suptitle(f"{result['title']}{runs}", fontsize=11.5, fontweight="bold", x=0.02, ha="left", parse_math=False)
  except (AttributeError, KeyError, TypeError) as error:
    raise ValueError(f"this is not what a study writes: {type(error).__name__} {error}.") from error
  return figure


def _lines(settings: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], bool]]:
  """(setting, whether the line is the title of its group) from the top."""
  lines: list[tuple[Mapping[str, Any], bool]] = []
  group = ""
  for setting in settings:
    if setting["group"] != group:
      group = setting["group"]
      lines.append((setting, True))
    lines.append((setting, False))
  return lines


def _plot_accuracy(axes: Axes, place: int, part: Mapping[str, Any]) -> None:
  found = [100 * value for value in part["seeds"].values()]
  axes.plot(found, [place] * len(found), "o", color=BLUE, alpha=0.45, markersize=6, markeredgewidth=0, zorder=2)
  if part["mean"] is not None:
    mean = 100 * part["mean"]
    axes.plot([mean, mean], [place - 0.28, place + 0.28], color=BLUE, linewidth=2.2, zorder=3)


def _plot_difference(axes: Axes, place: int, setting: Mapping[str, Any]) -> None:
  found = setting["difference"]
  if found is not None:
    axes.plot([100 * found["low"], 100 * found["high"]], [place, place], color=BLUE, linewidth=2.2, zorder=2)
    axes.plot([100 * found["mean"]], [place], "o", color=BLUE, markersize=6, zorder=3)
  elif setting["name"] == setting["baseline"]:
    axes.plot([0], [place], "D", color=GREY, markersize=5, zorder=3)


def _style(axes: Axes, title: str, number: int) -> None:
  axes.set_title(title, loc="left", fontsize=10.5, color=GREY)
  axes.set_ylim(number - 0.5, -0.5)
  axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
  axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
  axes.grid(axis="x", color=RULE, linewidth=0.8)
  axes.spines[["top", "right", "left"]].set_visible(False)
  axes.spines["bottom"].set_color(LIGHT)
  axes.tick_params(axis="x", colors=GREY, labelsize=10)
  axes.tick_params(axis="y", length=0, labelsize=10.5)
