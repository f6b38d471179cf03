"""Carries out a study: what has not been run is run, one run after another, and scored."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from convattn.errors import one_line
from convattn.files import write_whole
from convattn.study.definition import Study
from convattn.study.plan import RUNS, Run, experiment_of, runs_of, start_of
from convattn.study.progress import Pace, line
from convattn.study.record import FIGURE, RESULT, TABLE, check_folder, write_plan
from convattn.study.rehearsal import Size, check
from convattn.study.results import choose, results
from convattn.study.scores import Score, read_score, score, write_score
from convattn.study.table import markdown
from convattn.training import workdir as files
from convattn.training.changes import is_finished
from convattn.training.config import Experiment
from convattn.training.progress import show
from convattn.training.runs import run as train
from convattn.training.saving_errors import naming_a_full_disk

LOGS = "logs"
"""The folder of what the runs print: LOGS/SETTING/seed_N.txt."""


def run(study: Study, workdir: str | os.PathLike[str], *, command: str | None = None) -> dict[str, Any]:
  """Carries out what is left of a study in `workdir`, and returns its result, which is in study.json and study.md too.

  Each run is a workdir of its own, runs/SETTING/seed_N, and is trained in this process by `training.run`: what ends it
  ends the study, and the same call goes on where it was, as a run does; the result is the same but for its times. A
  run that diverges is told and left out, and the study goes on. Both files are written after every run.

  Args:
    study: what is to be run.
    workdir: of the study.
    command: that is written beside the result.

  Raises:
    UserError: the study, or one of its settings, could not be run, before anything is trained or written; a full disk;
      or as `training.run`.
    Terminated, KeyboardInterrupt: as `training.run`; the state of the run in progress is saved.
  """
  folder = Path(workdir).expanduser().absolute()
  check_folder(folder, study)
  sizes = check(study, folder)
  with files.locked(folder), naming_a_full_disk(folder):
    check_folder(folder, study)  # somebody else may have begun another one meanwhile
    write_plan(folder, study)
    return _Progress(study, folder, sizes, command).run()


@dataclasses.dataclass
class _Progress:
  """A study that is being carried out; `scores` are those of the runs that have ended."""

  study: Study
  folder: Path
  sizes: Mapping[str, Size]
  command: str | None

  def run(self) -> dict[str, Any]:
    runs = runs_of(self.study)
    self.scores = self._kept(runs)
    self._pace = Pace()
    for each in self.scores:
      self._pace.add(each, self._experiment(each), self.scores[each])
    found = f", {len(self.scores)} of them done" if self.scores else ""
    show(f"{self.study.title}: {len(runs)} runs{found}; what each prints is in {self.folder / LOGS}")
    result = self._write()
    for number, each in enumerate(runs, 1):
      if each in self.scores:
        continue
      experiment, stopped = self._experiment(each), self._stopped(each)
      self.scores[each] = _diverged(stopped) if stopped else self._carried_out(each, experiment)
      if not stopped:  # else it follows from the others, one of which may be tried again
        write_score(self.folder, each, self.scores[each])
      self._pace.add(each, experiment, self.scores[each])
      rest = [(other, self._experiment(other)) for other in runs if other not in self.scores]
      show(line(number, len(runs), each, self.scores[each], self._pace.left(rest)))
      result = self._write()
    return result

  def _kept(self, runs: tuple[Run, ...]) -> dict[Run, Score]:
    """The scores on the disk that are of the runs on the disk as they are."""
    kept = {}
    for each in runs:
      scored, result = read_score(self.folder, each), files.read_result(self._workdir(each))
      if scored is not None and (scored.diverged or scored.state_sha256 == (result or {}).get("state_sha256")):
        kept[each] = scored
    return kept

  def _stopped(self, run: Run) -> str:
    """Which of the runs that this one needs have diverged, so that it cannot begin; empty: none."""
    setting, start = self.study.named(run.setting), start_of(self.study, run)
    if start is not None and self.scores[start].diverged:
      return f"{start.title}, from which it starts, diverged"
    if run.candidate is None and self.study.is_tuned(setting) and choose(self.study, setting, self.scores) is None:
      return "every candidate of its tuning diverged"
    return ""

  def _carried_out(self, run: Run, experiment: Experiment) -> Score:
    """Trains the run, or what is left of it, and scores it."""
    started, start, workdir = time.perf_counter(), start_of(self.study, run), self._workdir(run)
    try:
      recorded, result = files.read_config(workdir), files.read_result(workdir)
      if start is not None and recorded is not None:
        recorded = _where_it_is(workdir, recorded, experiment.init_from)
      if result is None or not is_finished(recorded, experiment, result):
        with _printing_into(self.folder / LOGS / f"{run.name}.txt"):
          train(experiment, workdir)
        result = files.read_result(workdir)
      assert result is not None, workdir  # the run writes it before it returns
      return score(run, workdir, experiment, result, self.study.train_images)
    except FloatingPointError as error:
      return _diverged(one_line(error), time.perf_counter() - started)

  def _experiment(self, run: Run) -> Experiment:
    """Of a run whose tuning has not ended, with the first candidate: it serves to tell the time that is left."""
    chosen = {}
    for each in self.study.settings:
      if self.study.tuning is not None and self.study.is_tuned(each):
        value = choose(self.study, each, self.scores)
        chosen[each.name] = self.study.tuning.candidates[0] if value is None else value
    return experiment_of(self.study, run, self.folder, chosen)

  def _workdir(self, run: Run) -> Path:
    return self.folder / RUNS / run.name

  def _write(self) -> dict[str, Any]:
    result = results(self.study, self.sizes, self.scores, self.command)
    page = markdown(result, FIGURE if (self.folder / FIGURE).exists() or result["finished"] else None)
    files.write_json(self.folder / RESULT, result)
    write_whole({self.folder / TABLE: page.encode(errors="backslashreplace")})
    return result


def _where_it_is(workdir: Path, recorded: files.Recorded, start: str) -> files.Recorded:
  """A study's folder may have moved, and with it the weights that a run starts from: known by their place in it."""
  there = recorded.experiment.init_from
  if there == start or Path(there).parts[-3:] != Path(start).parts[-3:]:
    return recorded
  moved = dataclasses.replace(recorded, experiment=dataclasses.replace(recorded.experiment, init_from=start))
  files.write_config(workdir, moved)
  return moved


def _diverged(what: str, seconds: float = 0.0) -> Score:
  return Score({}, {}, None, seconds, "", diverged=what)


@contextlib.contextmanager
def _printing_into(path: Path) -> Iterator[None]:
  """What is printed in the block goes to the end of a file; stderr stays, where warnings are seen."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("a", encoding="utf-8", errors="backslashreplace") as file, contextlib.redirect_stdout(file):
    yield
