"""The table of a study, for a terminal and as Markdown, with what one must know to read it."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from convattn.analysis import columns
from convattn.training.progress import clock

_WIDEST = 120
"""Columns of a terminal that the table keeps to."""

_HEADER = ("setting", "parameters", "mult-adds", "test %", "train %", "gap", "difference [95 %]", "paper")
_PAPER = _HEADER.index("paper")
_NONE = "-"


def text(result: Mapping[str, Any]) -> str:
  """Title, table and notes as lines of at most 120 letters, where names and the paper's figures leave room for it."""
  rows = _rows(result)
  with_paper = _aligned([_HEADER, *rows])
  if max(map(len, with_paper)) <= _WIDEST:
    lines = with_paper
  else:
    lines = _aligned([_HEADER[:_PAPER], *(row[:_PAPER] for row in rows)])
    lines += [f"  paper, {row[0].strip()}: {row[-1]}" for row in rows if row[-1] not in ("", _NONE)]
  notes = [line for note in _notes(result) for line in _wrapped(note)]
  return "\n".join([result["title"], *_wrapped(result["question"]), "", *lines, "", *notes])


def markdown(result: Mapping[str, Any], figure: str | None = None) -> str:
  """The same as a page; `figure` is a picture beside it."""
  header = ["setting", "parameters", "multiply-adds", *_HEADER[3:]]
  lines = [f"# {result['title']}", "", result["question"], "", _markdown_row(header)]
  lines.append(_markdown_row(["---", *["---:"] * (len(header) - 2), "---"]))
  lines += [_markdown_row([f"**{row[0]}**", *row[1:]] if _is_title(row) else row) for row in _rows(result)]
  picture = ["", f"![{result['title']}]({figure})"] if figure else []
  return "\n".join([*lines, *picture, "", *(f"- {note}" for note in _notes(result))]) + "\n"


def _rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
  """The cells, a title row before each group that has a name."""
  rows: list[tuple[str, ...]] = []
  for group, settings in itertools.groupby(result["settings"], key=lambda setting: setting["group"]):
    rows += [(group, *[""] * (len(_HEADER) - 1))] if group else []
    rows += [_cells(setting) for setting in settings]
  return rows


def _is_title(row: Sequence[str]) -> bool:
  return not any(row[1:])


def _cells(setting: Mapping[str, Any]) -> tuple[str, ...]:
  difference = setting["difference"]
  told_apart = _NONE
  if setting["name"] == setting["baseline"]:
    told_apart = "baseline"
  elif difference is not None:
    told_apart = f"{_points(difference['mean'])} [{_points(difference['low'])}, {_points(difference['high'])}]"
  return (
    setting["name"],
    f"{setting['parameters']:,}",
    f"{setting['multiply_adds'] / 1e6:.3g} M",
    _accuracy(setting["test"]),
    _accuracy(setting["train"]),
    _NONE if setting["gap"] is None else _points(setting["gap"]),
    told_apart,
    setting["paper"] or _NONE,
  )


def _accuracy(part: Mapping[str, Any]) -> str:
  if part["mean"] is None:
    return _NONE
  deviation = f" ± {100 * part['deviation']:.2f}" if part["deviation"] is not None else ""
  return f"{100 * part['mean']:.2f}{deviation}"


def _points(share: float) -> str:
  return f"{100 * share:+z.2f}"  # no -0.00


def _notes(result: Mapping[str, Any]) -> list[str]:
  command = [f"command: {result['command']}"] if result["command"] else []
  time = f"time: {clock(result['seconds'])} in {result['runs']['ended']} runs, scoring included"
  means, difference, tuning = _means_note(result), _difference_note(result), _tuning_note(result)
  found = [*_stand_in_notes(result), *_missing_notes(result)]
  return [f"The paper: {result['paper']}", means, difference, tuning, *found, *command, time]


def _means_note(result: Mapping[str, Any]) -> str:
  also = [name for name in result["seeded"] if name != "seed"]
  seeds = _seeds(result["seeds"])
  over = f"mean ± sample standard deviation over {seeds}" if len(result["seeds"]) > 1 else f"of {seeds} alone"
  with_seed = f" A seed is the value of {', '.join(also)} too." if also else ""
  return (
    "test %, train %: accuracy of the final weights (averaged ones where a run keeps an average) on images that are "
    f"not augmented, {over}; train on at "
    f"most {result['train_images']:,} of the training images, drawn once. gap: train - test, in points.{with_seed}"
  )


def _difference_note(result: Mapping[str, Any]) -> str:
  draws, seed, share = (result["bootstrap"][name] for name in ("draws", "seed", "share"))
  return (
    "difference: test minus the group's baseline, in points, over the seeds that both have been run with. "
    f"[{100 * share:g} %]: percentile interval of a paired bootstrap, {draws:,} draws (seed {seed}), each of which "
    "takes test images and seeds with replacement, the same ones on both sides; of one seed it speaks of the images "
    "alone."
  )


def _tuning_note(result: Mapping[str, Any]) -> str:
  tuning = result["tuning"]
  if tuning is None:
    return "tuning: none of the settings was tuned."
  steps = f"{tuning['num_steps']:,} steps" if tuning["num_steps"] else "as many steps as the setting has"
  found = "; ".join(f"{name}: {_choice(each)}" for name, each in tuning["settings"].items())
  untuned = [each["name"] for each in result["settings"] if each["name"] not in tuning["settings"]]
  rest = f" Not tuned: {', '.join(untuned)}." if untuned else ""
  return (
    f"tuning: {tuning['setting']}, the best on the validation part of {', '.join(map(str, tuning['candidates']))}, one "
    f"run each with seed {tuning['seed']} and {steps}, for every setting alike. {found}.{rest}"
  )


def _choice(tried: Mapping[str, Any]) -> str:
  validation = {name: value for name, value in tried["validation"].items() if value is not None}
  if tried["chosen"] is None:
    return "not chosen yet" if len(validation) == len(tried["validation"]) else "none, all diverged"
  return f"{tried['chosen']} ({100 * validation[str(tried['chosen'])]:.2f} %)"


def _stand_in_notes(result: Mapping[str, Any]) -> list[str]:
  names = [each["name"] for each in result["settings"] if each["test_is_validation"]]
  of_which = "" if len(names) == len(result["settings"]) else f" of {', '.join(names)}"
  chosen = ", on which the tuning has chosen" if result["tuning"] else ""
  note = f"test images{of_which}: the validation part{chosen}; the data have no test part of their own"
  return [note] if names else []


def _missing_notes(result: Mapping[str, Any]) -> list[str]:
  missing = [f"{each['name']} ({_seeds(each['not_run'])})" for each in result["settings"] if each["not_run"]]
  diverged = [f"{each['name']} ({_seeds(each['diverged'])})" for each in result["settings"] if each["diverged"]]
  return [
    *([f"not run yet: {', '.join(missing)}"] if missing else []),
    *([f"diverged, and left out: {', '.join(diverged)}"] if diverged else []),
  ]


def _seeds(seeds: Sequence[Any] | Mapping[str, Any]) -> str:
  return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
  """Lines with the numbers under each other; titles of groups run over all columns, the paper's words stand left."""
  numbers = columns([row[:_PAPER] for row in rows if not _is_title(row)])
  width = max(map(len, numbers))
  left = iter(numbers)
  lines = (f"  {row[0]}" if _is_title(row) else f"{next(left):<{width}}  {''.join(row[_PAPER:])}" for row in rows)
  return [line.rstrip() for line in lines]


def _wrapped(note: str) -> list[str]:
  return textwrap.wrap(note, _WIDEST, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _markdown_row(cells: Sequence[str]) -> str:
  return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
