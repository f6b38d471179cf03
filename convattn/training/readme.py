"""README.md of a workdir: what was run, what came, how to run it again, and what lies there."""

import dataclasses
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from convattn.analysis import Cost
from convattn.errors import counted, printable
from convattn.files import write_whole
from convattn.training import workdir as files
from convattn.training.config import Experiment
from convattn.training.progress import best_scores, split_scores
from convattn.training.settings import fields
from convattn.training.writer import read_metrics

README = "README.md"

Sizes = tuple[int, int | None]
"""Parameters of a model, and its multiply-adds for one image where they could be counted."""

_OURS = "convattn wrote this when the run ended"
"""Stands in every README.md that a run wrote: another one is its owner's, and is left alone."""


@dataclasses.dataclass(frozen=True)
class Account:
  """What is known of a run when it begins.

  Attributes:
    experiment: its settings.
    metadata: of its task.
    devices: the line that tells them.
    model, data: their names, or those of the classes that were passed in their place.
    again: how it was asked for, a command or Python.
    in_python: which of them.
  """

  experiment: Experiment
  metadata: dict[str, Any]
  devices: str
  model: str
  data: str
  again: str
  in_python: bool

  def text(self, folder: Path, sizes: Sizes, result: dict[str, Any], records: Iterable[str]) -> str:
    """The file's text: a function of the arguments, of what lies in `folder`, of this machine and its software.

    Args:
      folder: the workdir, with what the run wrote before its result.
      sizes: of the model.
      result: of the run's end.
      records: names of the .json files of the test.
    """
    recorded, lines = files.read_config(folder), read_metrics(folder / files.METRICS)
    (parameters, multiply_adds), size = sizes, self.experiment.batch_size
    per_image = f", {multiply_adds:,} multiply-adds per image" if multiply_adds is not None else ""
    speed = f", {result['images_per_second']:,.0f} images/s" if result["images_per_second"] else ""
    scores = [*split_scores(lines[-1] if lines else result), *best_scores(result)]
    rows = {
      "model": f"{self.model}, {parameters:,} parameters{per_image}",
      "data": ", ".join([self.data, *self._examples()]),
      "training": f"{counted(result['step'], 'update')} of {counted(size, 'image')}, seed {self.experiment.seed}",
      "settings that are not the defaults": ", ".join(f"`{each}`" for each in changed(self.experiment)) or "none",
      "changed on the way": "; ".join(map(_changed_then, recorded.history if recorded else ())),
      "result": "; ".join(scores) or "nothing was scored",
      "time": f"{result['seconds']:,.1f} s{speed}; {_machine(self.devices)}",
      "files": ", ".join(self._files([*records])),
    }
    listed = [f"- {what}: {told}" for what, told in rows.items() if told]
    head = f"# {printable(folder.name)}\n\n{_OURS}; nothing reads it.\n"
    language = "python" if self.in_python else "bash"
    again = "To run it again, with another workdir, since this one holds its end:\n\n"
    return "\n".join([head, *listed, "", f"{again}```{language}\n{self.again}\n```\n"])

  def _files(self, records: list[str]) -> list[str]:
    """The last ones are drawn by a command, behind a run that it has trained."""
    figures = ["`curves.png`", *(f"`{record}.png`" for record in records)]
    page = ["`explore.html` (what the model looks at; open it in a browser)"] * bool(self.experiment.explore)
    drawn = [] if self.in_python else [f"{', '.join(figures)} (figures)", *page]
    return [*_FILES[:-1], *(f"`{record}.json`" for record in records), _FILES[-1], *drawn]

  def _examples(self) -> list[str]:
    examples, names = (self.metadata.get(name) for name in ("num_examples", "class_names"))
    counts = examples.items() if isinstance(examples, dict) else ()  # a task's metadata may be anything
    parts = [f"{split} {count:,}" for split, count in counts if isinstance(count, int)]
    return parts + ([f"{len(names):,} class{'es' * (len(names) != 1)}"] if isinstance(names, list | tuple) else [])


_FILES = (
  "`config.json` (settings and their history)",
  "`metrics.jsonl` (the curves)",
  "`result.json`",
  "`checkpoints/` (for convattn.training.restore)",
)


def account_of(
  experiment: Experiment,
  workdir: Any,
  metadata: dict[str, Any],
  devices: str,
  command: str,
  **passed: Any,
) -> Account:
  """Of a run that a `command` asked for, or else Python, with what was `passed`: model, task and variables."""
  given = {name: value for name, value in passed.items() if value is not None}
  model = type(given["model"]).__name__ if "model" in given else experiment.model.name
  data = type(given["task"]).__name__ if "task" in given else experiment.data.name
  if "task" not in given and experiment.data.dir:
    data += f" in {printable(experiment.data.dir)}"
  again = command or python_call(experiment, str(workdir), **given)
  return Account(experiment, metadata, devices, model, data, again, in_python=not command)


def python_call(experiment: Experiment, workdir: str, **passed: Any) -> str:
  """Python that runs the experiment; what was passed stands there by its class, with its fields left out."""
  values = "".join(
    f", {name}={type(value).__name__}(...)" if isinstance(value, nn.Module) or name == "task" else f", {name}=..."
    for name, value in passed.items()
  )
  groups: dict[str, list[str]] = {}
  for name, field, _, value in fields(experiment):
    if value != field.default:
      section, _, setting = name.rpartition(".")
      groups.setdefault(section, []).append(f"{setting}={value!r}")
  plain = groups.pop("", [])
  kinds = {section: section.capitalize() for section in groups}
  settings = [*plain, *(f"{section}={kinds[section]}({', '.join(groups[section])})" for section in groups)]
  names = ", ".join(sorted([*kinds.values(), "Experiment"])) + ", run"
  return f"from convattn.training import {names}\n\nrun(Experiment({', '.join(settings)}), {workdir!r}{values})"


def changed(experiment: Experiment) -> list[str]:
  """The settings that have another value than their default, as the command line writes them."""
  return [f"{name}={_shown(value)}" for name, field, _, value in fields(experiment) if value != field.default]


def _shown(value: Any) -> str:
  return printable(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def _changed_then(change: dict[str, Any]) -> str:
  told = ", ".join(
    f"`{name}` from {_shown(each['from'])} to {_shown(each['to'])}" for name, each in change["changed"].items()
  )
  return f"after step {change['step']:,} {told}"


def _machine(devices: str) -> str:
  cores = os.cpu_count() or 1
  machine = f"{platform.system()} {platform.machine()} of {counted(cores, 'core')}"
  return f"{devices}; {machine}, jax {jax.__version__}, Python {platform.python_version()}"


def sizes_of(params: Any, costs: list[Cost] | None) -> Sizes:
  """Of the model with these parameters and `analysis.model_costs`."""
  multiply_adds = None if costs is None else sum(row.multiply_adds for row in costs)
  return sum(leaf.size for leaf in jax.tree.leaves(params)), multiply_adds


def write_readme(folder: Path, account: Account, sizes: Sizes, result: dict[str, Any], records: Iterable[str]) -> None:
  """Writes `account.text` of these, but not over a file that no run wrote."""
  path = folder / README
  if not path.exists() or _is_ours(path):
    # A command that Python was given may be no text that a file can hold: no run fails for want of that.
    write_whole({path: account.text(folder, sizes, result, records).encode(errors="backslashreplace")})


def keep_readme(folder: Path, kept: Path) -> None:
  """Moves the one of a run that had ended, and goes on, to the folder `kept`."""
  path = folder / README
  if path.exists() and _is_ours(path):
    kept.mkdir(parents=True, exist_ok=True)
    path.replace(kept / README)


def _is_ours(path: Path) -> bool:
  return path.is_file() and _OURS in path.read_text(errors="replace")
