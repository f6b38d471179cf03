"""Trained runs side by side, as one page without anything beside it, and as a table in Markdown."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convattn.errors import counted, printable
from convattn.study.comparison import Group, Statistic, differing_settings, shown_value
from convattn.training.workdir import METRICS
from convattn.viz.curves import read_curves
from convattn.viz.seed_bands import PANELS, seed_band_figure
from convattn.viz.style import file_bytes

_HOW_TO_READ = """
Runs that differ in their seed only are one group. Settings that leave results as they are are not compared: where data
lie, how often a run logs.

Final figures: of the last weights, mean ± sample standard deviation over the runs of a group that have ended.

Curves: the mean over the runs of a group, in a band from its smallest to its largest run; of a training metric with
many lines the means of neighbouring ones, of a short run over as many steps as of the longest.

Speed: images/s of training alone over a whole run; TFLOP/s its median line; seconds with compiling and scoring. Compare
them only where the machine was the same.
"""

Table = tuple[str, Sequence[Sequence[str]]]
"""A heading, and rows of cells; the first row names the columns."""

_SPEED = {
  "images_per_second": ("images/s", ",.0f"),
  "tflop_per_second": ("TFLOP/s", ".3g"),
  "seconds": ("seconds", ",.0f"),
}


def comparison_tables(groups: Sequence[Group]) -> list[Table]:
  """What differs, what came out, how fast it was, and which runs they are, of groups from `study.compare`."""
  return [each for each in (_settings(groups), _scores(groups), _speed(groups), _runs(groups)) if len(each[1]) > 1]


def comparison_markdown(groups: Sequence[Group]) -> str:
  """The tables as Markdown, with how to read them."""
  lines = [f"# {_title(groups)}"]
  for heading, rows in comparison_tables(groups):
    head, *body = ([_cell(cell) for cell in row] for row in rows)
    ruler = ["---", *["---:"] * (len(head) - 1)]
    lines += ["", f"## {heading}", "", *(f"| {' | '.join(row)} |" for row in (head, ruler, *body))]
  return "\n".join([*lines, "", *(f"- {note}" for note in _notes(groups))]) + "\n"


def comparison_html(groups: Sequence[Group]) -> str:
  """The same as a page with the curves, which stand in it as SVG; it loads nothing and runs no script."""
  title = html.escape(_title(groups))
  figure = seed_band_figure({group.name: [read_curves(run.folder / METRICS) for run in group.runs] for group in groups},
                            _panels(groups), width=230)  # fmt: skip
  svg = file_bytes(figure, "svg").decode()
  # Its own heading would end the page's; a screen reader is told what it shows.
  picture = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{_spoken(groups)}"', 1)
  tables = "\n".join(_html_table(heading, rows) for heading, rows in comparison_tables(groups))
  notes = "\n".join(f"<li>{html.escape(note)}</li>" for note in _notes(groups))
  return _PAGE.format(title=title, picture=picture, tables=tables, notes=notes, style=_STYLE)


def _title(groups: Sequence[Group]) -> str:
  runs = sum(len(group.runs) for group in groups)
  return f"{counted(runs, 'run')} in {counted(len(groups), 'group')}"


def _panels(groups: Sequence[Group]) -> Sequence[str]:
  """The usual ones; of a task with other metrics the first few of its own."""
  there = dict.fromkeys(name for group in groups for run in group.runs for line in run.lines for name in line)
  usual = [name for name in PANELS if name in there]
  return usual or [name for name in there if name.startswith(("validation/", "train/"))][:3]


def _settings(groups: Sequence[Group]) -> Table:
  rows = [(name, *(shown_value(value) for value in values)) for name, values in differing_settings(groups)]
  return "Settings that differ", [("setting", *(group.name for group in groups)), *rows]


def _scores(groups: Sequence[Group]) -> Table:
  found = [group.scores() for group in groups]
  names = sorted(dict.fromkeys(name for each in found for name in each), key=_rank)
  ended = [str(sum(run.result is not None for run in group.runs)) for group in groups]
  rows = [("runs that ended", *ended), *((_named(name), *(_told(name, each) for each in found)) for name in names)]
  return "Final figures", [("metric", *(group.name for group in groups)), *(rows if names else ())]


def _rank(name: str) -> tuple[Any, ...]:
  split, _, metric = name.partition("/")
  return not split.startswith("test"), metric != "accuracy", metric, split


def _named(name: str) -> str:
  return f"{name}, %" if name.endswith("accuracy") else name


def _told(name: str, found: Mapping[str, Statistic]) -> str:
  return _number(
    found.get(name), 100 if name.endswith("accuracy") else 1, ".2f" if name.endswith("accuracy") else ".4f"
  )


def _number(found: Statistic | None, times: float, form: str) -> str:
  if found is None:
    return "–"
  # Of a loss two digits, since all of four places may be zeros.
  spread = ".2g" if form == ".4f" else form
  deviation = "" if found.deviation is None else f" ± {times * found.deviation:{spread}}"
  return f"{times * found.mean:{form}}{deviation}"


def _speed(groups: Sequence[Group]) -> Table:
  found = [group.speed() for group in groups]
  rows = [
    (told, *(_number(each.get(name), 1, form) for each in found))
    for name, (told, form) in _SPEED.items()
    if any(name in each for each in found)
  ]
  return "Speed", [("measured", *(group.name for group in groups)), *rows]


def _runs(groups: Sequence[Group]) -> Table:
  rows = [
    (str(run.folder), group.name, str(run.experiment.seed), *_end(run.result, run.lines, run.experiment.num_steps))
    for group in groups
    for run in group.runs
  ]
  return "Runs", [("workdir", "group", "seed", "steps", "state"), *rows]


def _end(result: Mapping[str, Any] | None, lines: Sequence[Mapping[str, Any]], num_steps: int) -> tuple[str, str]:
  if result is not None:
    return f"{result['step']:,}", str(result["state_sha256"])[:12]
  return f"{lines[-1]['step'] if lines else 0:,} of {num_steps:,}", "not ended"


def _notes(groups: Sequence[Group]) -> list[str]:
  open_runs = [str(run.folder) for group in groups for run in group.runs if run.result is None]
  told = [" ".join(each.split()) for each in _HOW_TO_READ.strip().split("\n\n")]
  return [*told, *([f"Not ended: {', '.join(map(printable, open_runs))}."] if open_runs else [])]


def _cell(text: str) -> str:
  return printable(text).replace("|", r"\|")


def _spoken(groups: Sequence[Group]) -> str:
  return html.escape(
    f"Curves of {', '.join(_panels(groups))} for {'; '.join(group.name for group in groups)}", quote=True
  )


def _html_table(heading: str, rows: Sequence[Sequence[str]]) -> str:
  head, *body = ([html.escape(printable(cell)) for cell in row] for row in rows)
  top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
  lines = "\n".join(
    f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in body
  )
  # What is wider than the screen is scrolled, with the keyboard too.
  scrolled = f'<div class="wide" role="region" tabindex="0" aria-label="{html.escape(heading)}">'
  return (
    f"<h2>{html.escape(heading)}</h2>\n{scrolled}<table>\n<thead><tr>{top}</tr></thead>\n"
    f"<tbody>\n{lines}\n</tbody></table></div>"
  )


def write_comparison(groups: Sequence[Group], out: Path) -> dict[Path, bytes]:
  """{path: content} of the page, whose name ends in .html, and beside it of the table in .md."""
  table = out.with_suffix(".md")
  return {out: comparison_html(groups).encode(), table: comparison_markdown(groups).encode()}


_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #20303c; --grey: #5f6b76; --rule: #dfe4e9; }
@media (prefers-color-scheme: dark) { :root { --paper: #14191e; --ink: #e6ebef; --grey: #a4afb9; --rule: #37424c; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--rule); text-align: right; font-weight: normal;
  white-space: nowrap; }
th[scope=row], th[scope=col]:first-child { text-align: left; }
th[scope=row] { white-space: normal; overflow-wrap: break-word; min-width: 9rem; max-width: 24rem; }
thead th { color: var(--grey); font-size: .9rem; white-space: normal; vertical-align: bottom; }
figure { margin: 1.5rem 0; padding: .8rem; background: #fff; border: 1px solid var(--rule); border-radius: 6px; }
figure svg { display: block; width: 100%; min-width: 44rem; height: auto; }
li { color: var(--grey); font-size: .9rem; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<figure class="wide" tabindex="0">{picture}</figure>
{tables}
<ul>
{notes}
</ul>
</body>
</html>
"""
