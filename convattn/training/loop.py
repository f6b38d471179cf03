"""When things happen: the one training loop."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import multihost_utils

from convattn.training import signals
from convattn.training import workdir as files
from convattn.training.checkpoint_folder import keep_under_another_name, warn
from convattn.training.checkpoints import RANKED_BY, Checkpoints
from convattn.training.config import Experiment
from convattn.training.description import TASK_PASSED, describe_model
from convattn.training.evaluation import EvaluationLeft, Scores, score
from convattn.training.feeding import Feeder, rows_of
from convattn.training.program import Program, run_keys
from convattn.training.progress import Progress, Throughput, device_memory, model_table, show, summary
from convattn.training.sharding import local_rows, put_rows
from convattn.training.sinks import open_sinks
from convattn.training.state import TrainState, sha256
from convattn.training.steps import window_means
from convattn.training.task import ImageClassification, Task
from convattn.training.tracing import Trace, too_few
from convattn.training.writer import SKIPPED_PICTURES, Writer, last_times, read_metrics


def is_main() -> bool:
  """Whether this process is the one that writes files and prints."""
  return jax.process_index() == 0


@dataclasses.dataclass(frozen=True)
class Loop:
  """One run in progress: the parts that its functions share. `trace_steps`: updates whose timeline is recorded."""

  experiment: Experiment
  folder: Path
  model: nn.Module
  task: Task
  task_passed: bool
  program: Program
  checkpoints: Checkpoints
  started: float
  trace_steps: int = 0
  throughput: Throughput = dataclasses.field(default_factory=Throughput)
  earlier: dict[str, float] = dataclasses.field(default_factory=dict)  # the last times of the run before it was killed

  def train(self, variables: dict[str, Any] | None) -> TrainState:
    """Restores the state or makes it, from `variables` or drawn ones; trains, tests, and writes the result."""
    with signals.catching() as stop:
      return self._train(variables, stop)

  def _train(self, variables: dict[str, Any] | None, stop: signals.Stop) -> TrainState:
    init_key, train_key = run_keys(self.experiment.seed)
    state = self.checkpoints.restore(self.program.template)
    if state is None:
      state = self.program.init(init_key) if variables is None else self.program.init(init_key, variables)
    self._check_finite(state)  # fewer may be allowed now than have been skipped
    first, last = int(state.step), self.experiment.num_steps
    self._keep_record()
    self.earlier.update(last_times(self.folder / files.METRICS, first))
    show(model_table(self.model, state.params, self.task.example_inputs))
    show(f"continues after step {first}" if first else None, too_few(last - first, self.trace_steps))
    self._rank()
    scores = None
    with (
      self._writer(first) as writer,
      Progress(last, first, enabled=is_main()) as progress,
      Feeder(self._batch, first, last) as batches,
      Trace(self.folder / files.PROFILE, first, self.trace_steps if is_main() else 0) as trace,
    ):
      if self._is_unscored(first):
        scores = self._recorded(state, first, stop, writer, progress)[1]
        self._rank()
      for step in range(first, last):
        if stop.is_due() or (batch := batches.next(stop.is_asked)) is None:
          raise self._stopped(state, step, stop)
        trace.before(step, state)
        state = self.program.train_step(state, batch, train_key)
        self.throughput.add(self.experiment.batch_size, batches.waited)
        progress.advance()
        numbers, scores = self._recorded(state, step + 1, stop, writer, progress)
        if self._is_due(step + 1, self.experiment.checkpoint.every):
          # After the line of this step has been written, so that a resumed run misses none.
          self._save(step + 1, state, numbers)
        if step == first:
          self._stop_clock(state)
        self.throughput.start(batches.waited)
    with self._leaving(state, last, stop):
      scores = self._test(state, stop) if scores is None else scores
    self._finish(state, scores)
    return state

  def _batch(self, step: int) -> dict[str, Any]:
    """The batch of update `step` (from 0) on the devices; this host makes only the rows that its own devices hold."""
    size, mesh = self.experiment.batch_size, self.program.mesh
    return put_rows(rows_of(self.task, step, local_rows(mesh, size)), mesh, size)

  @contextlib.contextmanager
  def _writer(self, first: int) -> Iterator[Writer | None]:
    if not is_main():
      yield None
      return
    settings = dataclasses.asdict(self.experiment)
    sinks = open_sinks(self.folder, first, self.experiment.wandb_project, settings)
    with Writer(self.folder, first, sinks) as writer:
      yield writer

  def _recorded(
    self, state: TrainState, step: int, stop: signals.Stop, writer: Writer | None, progress: Progress
  ) -> tuple[dict[str, float], Scores | None]:
    """`_measure`, and its numbers on the disk and on the screen."""
    with self._leaving(state, step, stop):
      numbers, scores = self._measure(state, step, stop)
    if numbers and writer is not None:
      writer.write(step, numbers)
      progress.report(step, numbers)
    return numbers, scores

  @contextlib.contextmanager
  def _leaving(self, state: TrainState, step: int, stop: signals.Stop) -> Iterator[None]:
    try:
      yield
    except EvaluationLeft:
      raise self._stopped(state, step, stop) from None

  def _is_unscored(self, step: int) -> bool:
    """Whether the checkpoint of `step` was saved by a run that was asked to end within the evaluation due there."""
    splits = {*self.task.evaluation_splits} - ({"test"} if step < self.experiment.num_steps else set())
    if not (step and splits and self._is_due(step, self.experiment.eval_every)):
      return False
    written = any(line["step"] == step for line in read_metrics(self.folder / files.METRICS))
    return not int(multihost_utils.broadcast_one_to_all(np.int32(written)))  # others may see the disk as it was

  def _keep_record(self) -> None:
    """Of a run that must start again, what it measured: its lines would be written anew, one by one."""
    record = self.folder / files.METRICS
    if self.checkpoints.lost_all and record.exists():
      warn(f"no checkpoint is left: the run starts again, and its lines are now in {keep_under_another_name(record)}.")

  def _rank(self) -> None:
    """Checkpoints that were saved without their score get it from its line, which came later."""
    lines = [line for line in read_metrics(self.folder / files.METRICS) if line.get(RANKED_BY) is not None]
    every = self.experiment.checkpoint.every
    scores = {int(line["step"]): line[RANKED_BY] for line in lines}
    self.checkpoints.rank({step: value for step, value in scores.items() if self._is_due(step, every)})

  def _save(self, step: int, state: TrainState, numbers: dict[str, float]) -> None:
    self._stop_clock(state)
    self._check_finite(state)
    parts = {"experiment": dataclasses.asdict(self.experiment), "model": describe_model(self.model)}
    description = {**self.task.metadata, **parts, **({TASK_PASSED: True} if self.task_passed else {})}
    self.checkpoints.save(step, state, description, numbers)

  def _stopped(self, state: TrainState, step: int, stop: signals.Stop) -> BaseException:
    """What to raise after a signal, once the state after `step` updates is on the disk."""
    saved = self.checkpoints.latest_step() or 0
    if step > saved:
      self._save(step, state, {})  # without a score: where one is due here, the next run adds it (`_rank`)
    self.checkpoints.wait()
    return stop.exception(
      f"stopped after step {step} of {self.experiment.num_steps}, which is saved in {self.folder}; the same command "
      "continues."
      if step
      else "stopped before the first step; nothing was saved."
    )

  def _check_finite(self, state: TrainState) -> None:
    """Refuses a state in which more updates were not finite than may be skipped."""
    count, allowed = int(state.nonfinite["count"]), self.experiment.max_skipped_steps
    if count <= allowed:
      return
    found = jax.device_get(state.nonfinite)
    steps = sorted({int(found["first"]), *(int(step) for step in found["steps"] if step >= 0)})
    good = self.checkpoints.latest_step()
    raise FloatingPointError(
      f"loss or gradient was not finite at step{'s' * (len(steps) > 1)} {', '.join(map(str, steps))} ({count} in all, "
      f"max_skipped_steps is {allowed}); "
      + (f"the checkpoint of step {good} in {self.folder} is the last good one. " if good else "")
      + "Raise max_skipped_steps to leave such updates out, and give the same command; or lower "
      "optimizer.peak_learning_rate, raise optimizer.warmup_steps or set optimizer.clip_norm, in another workdir."
    )

  def _seconds(self) -> float:
    return self.earlier.get("seconds", 0.0) + time.perf_counter() - self.started

  def _is_due(self, step: int, every: int) -> bool:
    return step % every == 0 or step == self.experiment.num_steps

  def _stop_clock(self, state: TrainState) -> None:
    jax.block_until_ready(state)
    self.throughput.stop()

  def _measure(self, state: TrainState, step: int, stop: signals.Stop) -> tuple[dict[str, float], Scores | None]:
    """The numbers that are due after update `step`, and at the last one the test's scores."""
    numbers: dict[str, float] = {}
    scores = None
    if self._is_due(step, self.experiment.log_every):
      numbers |= self._training_numbers(state)
    if self._is_due(step, self.experiment.eval_every):
      self._stop_clock(state)
      for split in self.task.evaluation_splits:
        if split != "test":
          numbers |= score(self.program, self.task, state, split, stop.is_due).numbers
    if step == self.experiment.num_steps:
      scores = self._test(state, stop)
      numbers |= scores.numbers
    return numbers, scores

  def _training_numbers(self, state: TrainState) -> dict[str, float]:
    numbers = window_means(jax.device_get(state.window))
    self._check_finite(state)
    if self.experiment.max_skipped_steps:
      numbers["skipped_steps"] = int(state.nonfinite["count"])
    if self.experiment.data.broken == "skip" and isinstance(self.task, ImageClassification):
      numbers[SKIPPED_PICTURES] = self.task.dataset.skipped()
    return numbers | {"seconds": self._seconds()} | self.throughput.lap() | device_memory()

  def _test(self, state: TrainState, stop: signals.Stop) -> Scores:
    if "test" not in self.task.evaluation_splits:
      return Scores({}, None)
    return score(self.program, self.task, state, "test", stop.is_due)

  def _finish(self, state: TrainState, scores: Scores) -> None:
    self.checkpoints.wait()  # result.json says that everything else is there
    result: dict[str, Any] = {"step": int(state.step), **scores.numbers}
    best = self.checkpoints.best()
    if best is not None and self.experiment.checkpoint.keep_best:
      result |= {"best/step": best[0], f"best/{RANKED_BY}": best[1]}
    result |= {
      "seconds": self._seconds(),
      "images_per_second": self.throughput.mean() or self.earlier.get("images_per_second"),
      "params_sha256": sha256(state.params),
      "state_sha256": sha256(state),
    }
    if not is_main():
      return
    if scores.confusion is not None:
      counts = scores.confusion.astype(int).tolist()
      names = list(self.task.metadata["class_names"])
      files.write_json(self.folder / files.CONFUSION, {"class_names": names, "counts": counts})
    result = files.finite(result)
    files.write_json(self.folder / files.RESULT, result)
    show(summary(result, self.folder))
