"""When things happen: the one training loop."""

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import multihost_utils

from convattn.training import signals
from convattn.training import workdir as files
from convattn.training.checkpoints import Checkpoints
from convattn.training.config import Experiment
from convattn.training.distributed import is_main
from convattn.training.evaluation import Arrays, score
from convattn.training.feeding import Feeder
from convattn.training.program import Program, run_keys
from convattn.training.progress import Progress, Throughput, device_memory, model_table, show, summary
from convattn.training.sharding import local_rows, put_rows
from convattn.training.state import TrainState, check_finite, sha256
from convattn.training.steps import window_means
from convattn.training.task import Task, host_numbers, ranking_of, records_of
from convattn.training.tracing import Trace, too_few
from convattn.training.writer import column, keep_record, last_times, open_writer


@dataclasses.dataclass
class Loop:
  """One run in progress.

  Attributes:
    description: what is saved with each checkpoint.
    started: when the process began, of time.perf_counter.
    trace_steps: updates whose timeline is recorded.
  """

  experiment: Experiment
  folder: Path
  model: nn.Module
  task: Task
  description: dict[str, Any]
  program: Program
  checkpoints: Checkpoints
  started: float
  trace_steps: int = 0

  def train(self, variables: dict[str, Any] | None) -> TrainState:
    """Restores the state or makes it, from `variables` or drawn ones; trains, tests, and writes the result."""
    with signals.catching() as self.stop:
      first, last = self._begin(variables), self.experiment.num_steps
      profile = self.folder / files.PROFILE
      with (
        open_writer(self.folder, first, self.experiment) if is_main() else contextlib.nullcontext() as self.writer,
        Progress(last, first, self.task.metric_names, enabled=is_main()) as self.progress,
        Feeder(self._batch, first, last) as batches,
        Trace(profile, first, self.trace_steps if is_main() else 0) as trace,
      ):
        try:
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
    made = (init_key,) if variables is None else (init_key, variables)
    self.state: TrainState = self.program.init(*made) if restored is None else restored
    self._check_finite()  # fewer may be allowed now than have been skipped
    first = int(self.state.step)
    if self.checkpoints.lost_all:
      keep_record(self.folder)
    self.earlier = last_times(self.folder / files.METRICS, first)  # of the run before it was killed
    show(model_table(self.model, self.state.params, self.task.example_inputs))
    left = self.experiment.num_steps - first
    show(f"continues after step {first}" if first else None, too_few(left, self.trace_steps))
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
      self.throughput.start(batches.waited)
    if self.test is None:
      self._test()

  def _batch(self, step: int) -> dict[str, Any]:
    """The batch of update `step` (from 0) on the devices; this host makes only the rows that its own devices hold."""
    size, mesh = self.experiment.batch_size, self.program.mesh
    return put_rows(self.task.train_rows(step, local_rows(mesh, size)), mesh, size)

  def _record(self, step: int) -> dict[str, float]:
    """The numbers that are due after update `step`, on the disk and on the screen; with the last one the test's."""
    numbers: dict[str, float] = {}
    if self._is_due(step, self.experiment.log_every):
      numbers |= self._training_numbers()
    if self._is_due(step, self.experiment.eval_every):
      self._stop_clock()
      for split in self.task.evaluation_splits:
        if split != "test":
          numbers |= score(self.program, self.task, self.state, split, self.stop.check)[0]
    if step == self.experiment.num_steps:
      numbers |= self._test()
    if numbers and self.writer is not None:
      self.writer.write(step, numbers)
      self.progress.report(step, numbers)
    return numbers

  def _training_numbers(self) -> dict[str, float]:
    numbers = window_means(jax.device_get(self.state.window))
    self._check_finite()
    if self.experiment.max_skipped_steps:
      numbers["skipped_steps"] = int(self.state.nonfinite["count"])
    times = {"seconds": self._seconds(), **self.throughput.lap(), **device_memory()}
    return numbers | host_numbers(self.task) | times

  def _test(self) -> dict[str, float]:
    has_one = "test" in self.task.evaluation_splits
    self.test = score(self.program, self.task, self.state, "test", self.stop.check) if has_one else ({}, {})
    return self.test[0]

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
    return self.stop.exception(
      f"stopped after step {step} of {self.experiment.num_steps}, which is saved in {self.folder}; the same command "
      "continues."
      if step
      else "stopped before the first step; nothing was saved."
    )

  def _is_unscored(self, step: int) -> bool:
    """Whether the checkpoint of `step` was saved by a run that was asked to end within the evaluation due there."""
    splits = {*self.task.evaluation_splits} - ({"test"} if step < self.experiment.num_steps else set())
    if not (step and splits and self._is_due(step, self.experiment.eval_every)):
      return False
    written = step in column(self.folder, "step")
    return not int(multihost_utils.broadcast_one_to_all(np.int32(written)))  # others may see the disk as it was

  def _rank(self) -> None:
    """Checkpoints that were saved without their score get it from its line, which came later."""
    ranking, every = ranking_of(self.task), self.experiment.checkpoint.every
    scores = {} if ranking is None else column(self.folder, ranking.score)
    self.checkpoints.rank({step: value for step, value in scores.items() if self._is_due(step, every)})

  def _check_finite(self) -> None:
    check_finite(self.state, self.experiment.max_skipped_steps, self.checkpoints.latest_step, self.folder)

  def _seconds(self) -> float:
    return self.earlier.get("seconds", 0.0) + time.perf_counter() - self.started

  def _is_due(self, step: int, every: int) -> bool:
    return step % every == 0 or step == self.experiment.num_steps

  def _stop_clock(self) -> None:
    jax.block_until_ready(self.state)
    self.throughput.stop()

  def _finish(self) -> None:
    self.checkpoints.wait()  # result.json says that everything else is there
    numbers, arrays = self.test or ({}, {})
    result: dict[str, Any] = {"step": int(self.state.step), **numbers}
    best, ranking = self.checkpoints.best(), ranking_of(self.task)
    if best is not None and ranking is not None and self.experiment.checkpoint.keep_best:
      result |= {"best/step": best[0], f"best/{ranking.score}": best[1]}
    result |= {
      "seconds": self._seconds(),
      "images_per_second": self.throughput.mean() or self.earlier.get("images_per_second"),
      "params_sha256": sha256(self.state.params),
      "state_sha256": sha256(self.state),
    }
    if is_main():
      for name, record in records_of(self.task, arrays).items():
        files.write_json(self.folder / f"{name}.json", record)
      result = files.finite(result)
      files.write_json(self.folder / files.RESULT, result)
      show(summary(result, self.folder))
