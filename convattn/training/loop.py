"""When things happen: the one training loop."""

import contextlib
import dataclasses
import math
import os
import time
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from convattn.data import Dataset
from convattn.training import workdir as files
from convattn.training.checkpoints import RANKED_BY, Checkpoints
from convattn.training.config import Experiment
from convattn.training.dataset import load_dataset
from convattn.training.description import TASK_PASSED, describe_data, describe_model
from convattn.training.determinism import request_deterministic_kernels
from convattn.training.evaluation import Scores, score
from convattn.training.initial import Initial, find_initial, initial_variables
from convattn.training.preflight import check_experiment, check_task, first_batches
from convattn.training.program import Program, build, make_model, run_keys
from convattn.training.progress import Progress, Throughput, device_line, model_table, summary, unused_gpu_warning
from convattn.training.sharding import make_mesh, put_batch
from convattn.training.state import TrainState, sha256
from convattn.training.steps import window_means
from convattn.training.task import ImageClassification, Task
from convattn.training.validation import validate, validate_batch_sizes
from convattn.training.writer import Writer, last_times


def run(
  experiment: Experiment,
  workdir: str | os.PathLike[str],
  model: nn.Module | None = None,
  task: Task | None = None,
  *,
  initial: Initial | None = None,
  dataset: Dataset | None = None,
) -> TrainState:
  """Trains to the end, from the last checkpoint in `workdir` if there is one, and returns the final state.

  The same call continues a run that was killed, and ends as if it had not been; "seconds" of its result.json is the
  time of all its processes. A finished run is not trained again: its result is printed and its final state returned.
  JAX's own settings stay as they are, but compute.deterministic adds a flag to the process's XLA_FLAGS.

  Args:
    experiment: the settings; `model` and `task` take the place of what they say about model and data.
    workdir: config.json, metrics.jsonl, confusion.json, result.json, checkpoints/ and TensorBoard events go here.
    model: a linen module called as `model.apply(variables, inputs, train=...)`; None: the experiment's, by name.
    task: such as ImageClassification(dataset, experiment); None: that of the experiment's data set.
    initial: what `find_initial(experiment, workdir)` read, where that has been called; None: the run calls it.
    dataset: the experiment's own, where `load_dataset` has read it; None: the run does, unless it has a `task`.

  Raises:
    ValueError: a setting, or a task that does not supply what the run will ask for; one line. A SettingsError where
      the optimizer's settings or the weights of init_from do not fit the model.
    WorkdirError: a ValueError for a workdir that is in use, damaged, or of other settings, another model or other data.
    FloatingPointError: the training loss is no longer finite.
  """
  started = time.perf_counter()
  validate(experiment)
  folder = Path(workdir).expanduser().absolute()
  files.check_config(folder, experiment)
  if experiment.compute.deterministic:
    request_deterministic_kernels()
  mesh, finished = make_mesh(), files.is_finished(folder)
  if not finished:  # whose result can be read with any number of devices
    validate_batch_sizes(experiment, mesh.size)
  _show(device_line(mesh.devices.flatten().tolist(), experiment.compute, model), unused_gpu_warning())
  initial = find_initial(experiment, folder) if initial is None else initial
  task_passed = task is not None
  model, task = _model_and_task(experiment, model, task, initial, dataset)
  program, batches = build(experiment, model, task, mesh), first_batches(task)
  if not finished:
    check_task(program, task, batches)
  identity = {"model": describe_model(model), "data": describe_data(task.metadata, batches)}
  variables = None
  if initial is not None:
    identity["init_from"] = initial.identity
    if initial.restored is not None:
      variables = initial_variables(initial.restored, model, task, program.template, run_keys(experiment.seed)[0])
  # Locked here, when all else has been checked: what is refused leaves no workdir behind.
  with files.locked(folder) if _is_main() else contextlib.nullcontext():
    files.check_config(folder, experiment, identity)
    with Checkpoints(folder / files.CHECKPOINTS, experiment.checkpoint) as checkpoints:
      result = files.read_result(folder)
      if result is not None:
        return _finished(folder, result, program, checkpoints)
      if _is_main():
        files.write_config(folder, experiment, identity)
      return _Run(experiment, folder, model, task, task_passed, program, checkpoints, started).train(variables)


def _model_and_task(
  experiment: Experiment,
  model: nn.Module | None,
  task: Task | None,
  initial: Initial | None,
  dataset: Dataset | None = None,
) -> tuple[nn.Module, Task]:
  """Those given, or else those that the experiment names."""
  if model is None:
    make_model(experiment, num_classes=1)  # refuses what the model does not take before data is prepared
  if task is None:
    if dataset is None:
      dataset = load_dataset(experiment, initial.preprocessing if initial else None)
    task = ImageClassification(dataset, experiment)
  check_experiment(task, experiment)
  return make_model(experiment, task.num_classes) if model is None else model, task


def _is_main() -> bool:
  return jax.process_index() == 0


def _show(*lines: str | None) -> None:
  for line in lines:
    if line is not None and _is_main():
      print(line, flush=True)


def _finished(folder: Path, result: dict[str, Any], program: Program, checkpoints: Checkpoints) -> TrainState:
  _show(f"{folder} holds a finished run of these settings:", summary(result, folder))
  _show(f"To start anew, give another --workdir (WORKDIR= with make), or delete {folder}.")
  state = checkpoints.restore(program.template, result["step"]) if result["step"] in checkpoints.steps() else None
  if state is None:
    raise files.WorkdirError(
      f"{folder} has a result.json but no checkpoint of step {result['step']}; delete {folder} and train anew."
    )
  return state


@dataclasses.dataclass(frozen=True)
class _Run:
  """One run in progress: the parts that its functions share."""

  experiment: Experiment
  folder: Path
  model: nn.Module
  task: Task
  task_passed: bool
  program: Program
  checkpoints: Checkpoints
  started: float
  throughput: Throughput = dataclasses.field(default_factory=Throughput)
  earlier: dict[str, float] = dataclasses.field(default_factory=dict)  # the last times of the run before it was killed

  def train(self, variables: dict[str, Any] | None) -> TrainState:
    """Restores the state or makes it, from `variables` or drawn ones; trains, tests, and writes the result."""
    init_key, train_key = run_keys(self.experiment.seed)
    state = self.checkpoints.restore(self.program.template)
    if state is None:
      state = self.program.init(init_key) if variables is None else self.program.init(init_key, variables)
    first = int(state.step)
    self.earlier.update(last_times(self.folder / files.METRICS, first))
    _show(model_table(self.model, state.params, self.task.example_inputs))
    _show(f"continues after step {first}" if first else None)
    scores = None
    writes = Writer(self.folder, first) if _is_main() else contextlib.nullcontext()
    with writes as writer, Progress(self.experiment.num_steps, first, enabled=_is_main()) as progress:
      for step in range(first, self.experiment.num_steps):
        state = self.program.train_step(state, put_batch(self.task.train_batch(step), self.program.mesh), train_key)
        self.throughput.add(self.experiment.batch_size)
        progress.advance()
        numbers, scores = self._measure(state, step + 1)
        if numbers and writer is not None:
          writer.write(step + 1, numbers)
          progress.report(step + 1, numbers)
        if self._is_due(step + 1, self.experiment.checkpoint.every):
          # After the line of this step has been written, so that a resumed run misses none.
          self._stop_clock(state)
          self.checkpoints.save(step + 1, state, self._description(), numbers)
        if step == first:
          self._stop_clock(state)
        self.throughput.start()
    self._finish(state, self._test(state) if scores is None else scores)
    return state

  def _description(self) -> dict[str, Any]:
    """What is saved with a state, so that it can be used without this program."""
    parts = {"experiment": dataclasses.asdict(self.experiment), "model": describe_model(self.model)}
    return {**self.task.metadata, **parts, **({TASK_PASSED: True} if self.task_passed else {})}

  def _seconds(self) -> float:
    return self.earlier.get("seconds", 0.0) + time.perf_counter() - self.started

  def _is_due(self, step: int, every: int) -> bool:
    return step % every == 0 or step == self.experiment.num_steps

  def _stop_clock(self, state: TrainState) -> None:
    jax.block_until_ready(state)
    self.throughput.stop()

  def _measure(self, state: TrainState, step: int) -> tuple[dict[str, float], Scores | None]:
    """The numbers that are due after update `step`, and at the last one the test's scores."""
    numbers: dict[str, float] = {}
    scores = None
    if self._is_due(step, self.experiment.log_every):
      numbers |= self._training_numbers(state, step)
    if self._is_due(step, self.experiment.eval_every):
      self._stop_clock(state)
      for split in self.task.evaluation_splits:
        if split != "test":
          numbers |= score(self.program, self.task, state, split).numbers
    if step == self.experiment.num_steps:
      scores = self._test(state)
      numbers |= scores.numbers
    return numbers, scores

  def _training_numbers(self, state: TrainState, step: int) -> dict[str, float]:
    numbers = window_means(jax.device_get(state.window))
    if not math.isfinite(numbers["train/loss"]):
      raise FloatingPointError(
        f"train/loss is {numbers['train/loss']} at step {step}; lower optimizer.peak_learning_rate, raise "
        f"optimizer.warmup_steps or set optimizer.clip_norm, and start in another workdir."
      )
    numbers["seconds"] = self._seconds()
    speed = self.throughput.lap()
    return numbers if speed is None else {**numbers, "images_per_second": speed}

  def _test(self, state: TrainState) -> Scores:
    if "test" not in self.task.evaluation_splits:
      return Scores({}, None)
    return score(self.program, self.task, state, "test")

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
    if not _is_main():
      return
    if scores.confusion is not None:
      counts = scores.confusion.astype(int).tolist()
      names = list(self.task.metadata["class_names"])
      files.write_json(self.folder / files.CONFUSION, {"class_names": names, "counts": counts})
    result = files.finite(result)
    files.write_json(self.folder / files.RESULT, result)
    _show(summary(result, self.folder))
