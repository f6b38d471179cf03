"""What a study shows while it runs: a line for each run, and the time that is left."""

from __future__ import annotations

from collections.abc import Sequence

from convattn.study.plan import Run
from convattn.study.scores import Score
from convattn.training.config import Experiment
from convattn.training.progress import clock


class Pace:
  """Seconds a run will take, from those that have ended: at the pace of its own setting, else at that of all.

  A pace is seconds over work, which is the images of all updates; one that diverged says nothing about it.
  """

  def __init__(self) -> None:
    self._seconds: dict[str, float] = {}
    self._work: dict[str, int] = {}

  def add(self, run: Run, experiment: Experiment, scored: Score) -> None:
    if scored.diverged:
      return
    self._seconds[run.setting] = self._seconds.get(run.setting, 0.0) + scored.seconds
    self._work[run.setting] = self._work.get(run.setting, 0) + _work(experiment)

  def left(self, runs: Sequence[tuple[Run, Experiment]]) -> float | None:
    """Seconds that these runs will take; None before one has ended."""
    if not self._work:
      return None
    overall = sum(self._seconds.values()) / sum(self._work.values())
    paces = {name: self._seconds[name] / work for name, work in self._work.items()}
    return sum(_work(experiment) * paces.get(run.setting, overall) for run, experiment in runs)


def _work(experiment: Experiment) -> int:
  return experiment.num_steps * experiment.batch_size


def line(number: int, total: int, run: Run, scored: Score, left: float | None) -> str:
  """Such as "12/45  cctt_10 seed 1: train 93.40 %, test 88.12 % in 2:13; about 1:04:20 left"."""
  found = ", ".join(f"{split} {value:.2%}" for split, value in scored.accuracy.items())
  what = found.replace("%", " %") or scored.diverged
  end = f"; about {clock(left)} left" if left else ""
  return f"{number:>{len(str(total))}}/{total}  {run.title}: {what} in {clock(scored.seconds)}{end}"
