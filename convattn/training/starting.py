"""`run`: everything that must be right before the first update, then the loop."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from convattn.data import BrokenPicture, Dataset
from convattn.training import workdir as files
from convattn.training.checkpoints import Checkpoints
from convattn.training.config import Experiment
from convattn.training.dataset import load_dataset
from convattn.training.description import describe_data, describe_model
from convattn.training.determinism import request_deterministic_kernels
from convattn.training.full_disk import full_disk_line, is_full_disk
from convattn.training.initial import Initial, find_initial, initial_variables
from convattn.training.loop import Loop, is_main
from convattn.training.preflight import Batches, check_experiment, check_task, first_batches
from convattn.training.program import Program, build, make_model, run_keys
from convattn.training.progress import device_line, show, summary, unused_gpu_warning
from convattn.training.sharding import make_mesh
from convattn.training.state import TrainState
from convattn.training.task import ImageClassification, Task
from convattn.training.tracing import too_few
from convattn.training.validation import SettingsError, validate, validate_batch_sizes


def run(
  experiment: Experiment,
  workdir: str | os.PathLike[str],
  model: nn.Module | None = None,
  task: Task | None = None,
  *,
  initial: Initial | None = None,
  dataset: Dataset | None = None,
  trace_steps: int = 0,
) -> TrainState:
  """Trains to the end, from the last checkpoint in `workdir` if there is one, and returns the final state.

  The same call continues a run that was killed, and ends as if it had not been; "seconds" of its result.json is the
  time of all its processes, of a killed one up to its last line in metrics.jsonl. A finished run is not trained again:
  its result is printed and its final state returned. SIGTERM and Ctrl-C end it after the update, or the evaluation's
  batch, in progress, with a checkpoint of that update (signals are Python's to catch in the main thread only).
  JAX's own settings stay as they are, but compute.deterministic adds a flag to the process's XLA_FLAGS.

  Args:
    experiment: the settings; `model` and `task` take the place of what they say about model and data.
    workdir: config.json, metrics.jsonl, confusion.json, result.json, checkpoints/ and TensorBoard events go here.
    model: a linen module called as `model.apply(variables, inputs, train=...)`; None: the experiment's, by name.
    task: such as ImageClassification(dataset, experiment); None: that of the experiment's data set.
    initial: what `find_initial(experiment, workdir)` read, where that has been called; None: the run calls it.
    dataset: the experiment's own, where `load_dataset` has read it; None: the run does, unless it has a `task`.
    trace_steps: updates whose timeline goes to profile/ in the workdir, once the first two have compiled; 0: none.

  Raises:
    ValueError: a setting, or a task that does not supply what the run will ask for; one line. A SettingsError where
      the optimizer's settings or the weights of init_from do not fit the model.
    WorkdirError: a ValueError for a workdir that is in use, damaged, or of other settings, another model or other data,
      or for a disk that is full.
    FloatingPointError: the loss or gradient of more than `max_skipped_steps` updates was not finite; none of them is in
      a checkpoint.
    Terminated: SIGTERM came, and the state is saved. It is a SystemExit of status 0.
    KeyboardInterrupt: Ctrl-C came, and the state is saved; at the second one at once, without.
  """
  started = time.perf_counter()
  validate(experiment)
  folder = Path(workdir).expanduser().absolute()
  files.check_config(folder, experiment)
  if experiment.compute.deterministic:
    request_deterministic_kernels()
  finished = files.is_finished(folder)
  mesh = make_mesh(fsdp=1 if finished else experiment.compute.fsdp)
  if not finished:  # whose result can be read with any number of devices
    validate_batch_sizes(experiment, mesh.size)
  show(device_line(mesh.devices.flatten().tolist(), experiment.compute, model), unused_gpu_warning())
  initial = find_initial(experiment, folder) if initial is None else initial
  task_passed = task is not None
  model, task = _model_and_task(experiment, model, task, initial, dataset)
  with contextlib.closing(task) if isinstance(task, ImageClassification) else contextlib.nullcontext():
    program = build(experiment, model, task, mesh)
    batches = _looked_at(program, task, finished)
    identity = {"model": describe_model(model), "data": describe_data(task.metadata, batches)}
    variables = None
    if initial is not None:
      identity["init_from"] = initial.identity
      if initial.restored is not None:
        variables = initial_variables(initial.restored, model, task, program.template, run_keys(experiment.seed)[0])
    # Locked here, when all else has been checked: what is refused leaves no workdir behind.
    with files.locked(folder) if is_main() else contextlib.nullcontext(), _naming_a_full_disk(folder):
      files.check_config(folder, experiment, identity)
      with Checkpoints(folder / files.CHECKPOINTS, experiment.checkpoint) as checkpoints:
        result = files.read_result(folder)
        if result is not None:
          show(too_few(0, trace_steps))
          return _finished(folder, result, program, checkpoints)
        if is_main():
          files.write_config(folder, experiment, identity)
        loop = Loop(experiment, folder, model, task, task_passed, program, checkpoints, started, trace_steps)
        with jax.debug_nans(True) if experiment.compute.debug_nans else contextlib.nullcontext():
          return loop.train(variables)


def _looked_at(program: Program, task: Task, finished: bool) -> Batches:
  try:
    batches = first_batches(task)
    if not finished:
      check_task(program, task, batches)
  except BrokenPicture:
    raise
  except ValueError as error:
    raise SettingsError(str(error)) from error
  return batches


@contextlib.contextmanager
def _naming_a_full_disk(folder: Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    if is_full_disk(error):
      raise files.WorkdirError(full_disk_line(folder)) from error
    raise


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


def _finished(folder: Path, result: dict[str, Any], program: Program, checkpoints: Checkpoints) -> TrainState:
  show(f"{folder} holds a finished run of these settings:", summary(result, folder))
  show(f"To start anew, give another --workdir (WORKDIR= with make), or delete {folder}.")
  state = checkpoints.restore(program.template, result["step"]) if result["step"] in checkpoints.steps() else None
  if state is None:
    raise files.WorkdirError(
      f"{folder} has a result.json but no whole checkpoint of step {result['step']}; delete {folder / files.RESULT} "
      "and give the same command: it goes on from the checkpoint before that one, or anew."
    )
  return state
