"""When things happen: the one training loop."""

import contextlib
import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import multihost_utils

from convattn.analysis import model_costs, model_table
from convattn.training import signals, workdir as files
from convattn.training.changes import Change
from convattn.training.checkpoints import Checkpoints
from convattn.training.config import Experiment
from convattn.training.distributed import is_main
from convattn.training.evaluation import Arrays, score
from convattn.training.feeding import Feeder, train_batch
from convattn.training.freezing import frozen_line
from convattn.training.program import Program, run_keys
from convattn.training.progress import Progress, Throughput, device_memory, flop_per_image, show, summary
from convattn.training.readme import Account, sizes_of, write_readme
from convattn.training.records import records_of
from convattn.training.state import TrainState, check_finite, sha256
from convattn.training.steps import training_numbers
from convattn.training.task import Task, host_numbers, ranking_of
from convattn.training.tracing import Trace, too_few
from convattn.training.writer import column, keep_record, last_times, open_writer


@dataclasses.dataclass
class Loop:
  """One run in progress.

  `description` is saved with each checkpoint; `change` is recorded when nothing is left to be refused; `trace_steps`
  updates are profiled.
  """

  experiment: Experiment
  folder: Path
  model: nn.Module
  task: Task
  description: dict[str, Any]
  program: Program
  checkpoints: Checkpoints
  started: float
  change: Change
  account: Account
  trace_steps: int = 0

  def train(self, variables: dict[str, Any] | None) -> TrainState:
    """Restores the state or makes it, from `variables` or drawn ones; trains, tests, and writes the result."""
    with signals.catching() as self.stop:
      first, last = self._begin(variables), self.experiment.num_steps
      make = functools.partial(train_batch, self.task, batch_size=self.experiment.batch_size, mesh=self.program.mesh)
      with (
        open_writer(self.folder, first, self.experiment) if is_main() else contextlib.nullcontext() as self.writer,
        Progress(last, first, self.task.metric_names, enabled=is_main()) as self.progress,
        Feeder(make, first, last) as batches,
        Trace(self.folder / files.PROFILE, first, self.trace_steps if is_main() else 0) as trace,
      ):
        try:
          self.change.record(first)  # nothing is left that could be refused
          self._train(first, last, batches, trace)
        except signals.Asked:
          raise self._stopped() from None
      self._finish()
    return self.state

  def _begin(self, variables: dict[str, Any] | None) -> int:
    """Makes the state and shows where the run stands; returns the updates that have been applied."""
    self.throughput = Throughput()
    self.test: tuple[dict[str, float], Arrays] | None = None
    init_key, self.train_key = run_keys(self.experiment.seed)
    restored = self.checkpoints.restore(self.program.template)
    self.state: TrainState = self.program.init(init_key, variables) if restored is None else restored
    self._check_finite()  # fewer may be allowed now than have been skipped
    first = int(self.state.step)
    if self.checkpoints.lost_all:
      keep_record(self.folder)
    self.earlier = last_times(self.folder / files.METRICS, first)  # of the run before it was killed
    self.started -= self.earlier.get("seconds", 0.0)
    self.costs = model_costs(self.model, self.task.example_inputs)
    show(model_table(self.costs, self.state.params))
    show(frozen_line(self.experiment.optimizer.freeze, self.state.params))
    show(f"continues after step {first}" if first else None)
    skipped = int(self.state.nonfinite["count"]) if self.experiment.max_skipped_steps else 0
    show(self.change.line(first, first - skipped))
    show(too_few(self.experiment.num_steps - first, self.trace_steps))
    self._rank()
    return first

  def _train(self, first: int, last: int, batches: Feeder, trace: Trace) -> None:
    if self._is_unscored(first):
      self._record(first)
      self._rank()
    for step in range(first, last):
      self.stop.check()
      batch = batches.next(self.stop.is_asked)
      trace.before(step, self.state)
      self.state = self.program.train_step(self.state, batch, self.train_key)
      self.throughput.add(self.experiment.batch_size, batches.waited)
      self.progress.advance()
      numbers = self._record(step + 1)
      if self._is_due(step + 1, self.experiment.checkpoint.every):
        self._save(step + 1, numbers)  # after the line of this step has been written: a resumed run misses none
      if step == first:
        self._stop_clock()
        call = self.program.train_step, self.experiment.batch_size, self.state, batch, self.train_key
        self.throughput.flop_per_image = flop_per_image(*call)
      self.throughput.start(batches.waited)
    if self.test is None:
      self._evaluate([*{"test"} & {*self.task.evaluation_splits}])

  def _record(self, step: int) -> dict[str, float]:
    """The numbers that are due after update `step`, on the disk and on the screen."""
    numbers: dict[str, float] = {}
    if self._is_due(step, self.experiment.log_every):
      self._check_finite()
      times = {"seconds": time.perf_counter() - self.started, **self.throughput.lap(), **device_memory()}
      numbers |= training_numbers(self.state, self.experiment.max_skipped_steps) | host_numbers(self.task) | times
    numbers |= self._evaluate(self._splits_due(step))
    if numbers and self.writer is not None:
      self.writer.write(step, numbers)
      self.progress.report(step, numbers)
    return numbers

  def _evaluate(self, splits: list[str]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for split in splits:
      self._stop_clock()
      scores, arrays = score(self.program, self.task, self.state, split, self.stop.check)
      numbers |= scores
      if split == "test":
        self.test = scores, arrays
    return numbers

  def _splits_due(self, step: int) -> list[str]:
    """The test's once, with the final weights."""
    splits = self.task.evaluation_splits if self._is_due(step, self.experiment.eval_every) else ()
    return [split for split in splits if split != "test" or step == self.experiment.num_steps]

  def _save(self, step: int, numbers: dict[str, float]) -> None:
    self._stop_clock()
    self._check_finite()
    self.checkpoints.save(step, self.state, self.description, numbers)

  def _stopped(self) -> BaseException:
    """What to raise after a signal, once the state is on the disk."""
    step, saved = int(self.state.step), self.checkpoints.latest_step() or 0
    if step > saved:
      self._save(step, {})  # without a score: where one is due here, the next run adds it (`_rank`)
    self.checkpoints.wait()
    return self.stop.exception(step, self.experiment.num_steps, self.folder)

  def _is_unscored(self, step: int) -> bool:
    """Whether the checkpoint of `step` was saved by a run that was asked to end within the evaluation due there."""
    if not (step and self._splits_due(step)):
      return False
    # Of the first process: others may see the disk as it was.
    return not int(multihost_utils.broadcast_one_to_all(np.int32(step in column(self.folder, "step"))))

  def _rank(self) -> None:
    """Checkpoints that were saved without their score get it from its line, which came later."""
    ranking, every = ranking_of(self.task), self.experiment.checkpoint.every
    scores = {} if ranking is None else column(self.folder, ranking.score)
    self.checkpoints.rank({step: value for step, value in scores.items() if self._is_due(step, every)})

  def _check_finite(self) -> None:
    check_finite(self.state, self.experiment.max_skipped_steps, self.checkpoints.latest_step, self.folder)

  def _is_due(self, step: int, every: int) -> bool:
    return step % every == 0 or step == self.experiment.num_steps

  def _stop_clock(self) -> None:
    jax.block_until_ready(self.state)
    self.throughput.stop()

  def _finish(self) -> None:
    self.checkpoints.wait()  # result.json says that everything else is there
    numbers, arrays = self.test or ({}, {})
    result = {
      "step": int(self.state.step),
      **numbers,
      **self.checkpoints.best_numbers(),
      "seconds": time.perf_counter() - self.started,
      "images_per_second": self.throughput.mean() or self.earlier.get("images_per_second"),
      "params_sha256": sha256(self.state.params),
      "state_sha256": sha256(self.state),
    }
    if is_main():
      records = records_of(self.task, arrays)
      result = files.finite(result)
      write_readme(self.folder, self.account, sizes_of(self.state.params, self.costs), result, records)
      files.write_result(self.folder, result, records)
      show(summary(result, self.folder))
