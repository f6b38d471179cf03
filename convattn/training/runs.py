"""`run`: everything that must be right before the first update, then the loop."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from convattn.errors import UserError
from convattn.training import output, workdir as files
from convattn.training.checkpoints import Checkpoints
from convattn.training.classification import ImageClassification, load_dataset
from convattn.training.config import Experiment
from convattn.training.description import TASK_PASSED, describe_data, describe_inputs, describe_model
from convattn.training.determinism import request_deterministic_kernels
from convattn.training.distributed import is_main
from convattn.training.evaluation import empty_split
from convattn.training.init_from import Initial, as_template, find_initial, initial_variables
from convattn.training.loop import Loop
from convattn.training.program import Program, build, make_model, run_keys
from convattn.training.progress import device_line, show, summary, unused_gpu_warning
from convattn.training.saving_errors import full_disk_line, is_full_disk
from convattn.training.settings import validate, validate_batch_sizes
from convattn.training.sharding import make_mesh
from convattn.training.state import TrainState, sha256
from convattn.training.steps import WINDOW_NAMES
from convattn.training.task import ALL_ROWS, Batch, Task, close, ranking_of
from convattn.training.tracing import too_few


def run(
  experiment: Experiment,
  workdir: str | os.PathLike[str],
  model: nn.Module | None = None,
  task: Task | None = None,
  *,
  variables: dict[str, Any] | None = None,
  trace_steps: int = 0,
) -> TrainState:
  """Trains to the end, from the last checkpoint in `workdir` if there is one, and returns the final state.

  The same call continues a run that was killed, and ends as if it had not been; "seconds" of its result.json is the
  time of all its processes, of a killed one up to its last line in metrics.jsonl. A finished run is not trained again:
  its result is printed and its final state returned. The signals that end a job (training/signals.py) end it
  after the update, or the evaluation's batch, in progress, with a checkpoint of that update (they are Python's to catch
  in the main thread only). Where nobody reads what is printed any more, it goes on without.
  JAX's own settings stay as they are, but compute.deterministic adds a flag to the process's XLA_FLAGS.

  Args:
    experiment: the settings; `model` and `task` take the place of what they say about model and data.
    workdir: config.json, metrics.jsonl, confusion.json, result.json, checkpoints/ and TensorBoard events go here.
    model: a linen module called as `model.apply(variables, inputs, train=...)`; None: the experiment's, by name.
    task: such as ImageClassification(dataset, experiment); None: that of the experiment's data set.
    variables: first ones in the place of drawn ones, of the structure that `model.init` gives, for a model that
      `init_from` does not know; a run that has a checkpoint goes on from that.
    trace_steps: updates whose timeline goes to profile/ in the workdir, once the first two have compiled; 0: none.

  Raises:
    UserError: a setting, data, weights of init_from, or a task that does not supply what the run will ask for; a
      workdir that is in use, damaged, or of other settings, another model or other data; a full disk. One line each.
    FloatingPointError: the loss or gradient of more than `max_skipped_steps` updates was not finite; none of them is in
      a checkpoint.
    Terminated: SIGTERM or another signal that ends a job came, and the state is saved; a SystemExit of status 0.
    KeyboardInterrupt: Ctrl-C came, and the state is saved; at the second one at once, without.
  """
  with output.guarded(goes_on=True):
    return _run(experiment, workdir, model, task, variables, trace_steps)


def _run(
  experiment: Experiment,
  workdir: str | os.PathLike[str],
  model: nn.Module | None,
  task: Task | None,
  variables: dict[str, Any] | None,
  trace_steps: int,
) -> TrainState:
  started = time.perf_counter()
  validate(experiment)
  folder = Path(workdir).expanduser().absolute()
  files.check_config(folder, experiment)
  if experiment.compute.deterministic:
    request_deterministic_kernels()
  finished = files.read_result(folder) is not None
  mesh = make_mesh(fsdp=1 if finished else experiment.compute.fsdp)
  if not finished:  # whose result can be read with any number of devices
    validate_batch_sizes(experiment, mesh.size)
  devices = device_line(mesh.devices.flatten().tolist(), experiment.compute, model)
  if model is None:
    make_model(experiment, num_classes=1)  # refuses what the model does not take before weights and data are read
  if variables is not None and experiment.init_from:
    raise UserError(f"init_from is {experiment.init_from!r}, but variables are given as well; leave one of them out.")
  initial = find_initial(experiment, folder)
  description: dict[str, Any] = {TASK_PASSED: True} if task is not None else {}
  task = _task(experiment, task, initial)
  show(devices, unused_gpu_warning())
  with contextlib.ExitStack() as stack:
    stack.callback(close, task)
    model = make_model(experiment, task.num_classes) if model is None else model
    program = build(experiment, model, task, mesh)
    batches = first_batches(task)
    if not finished:
      check_task(program, task, batches, experiment.batch_size)
    identity = {"model": describe_model(model), "data": describe_data(task.metadata, batches)}
    if variables is not None:
      variables = as_template(variables, program.template, "variables")
      identity["variables"] = {"sha256": sha256(variables)}
    if initial is not None:
      identity["init_from"] = initial.identity
      if initial.restored is not None:
        variables = initial_variables(initial.restored, model, task, program.template, run_keys(experiment.seed)[0])
    # Locked here, when all else has been checked: what is refused leaves no workdir behind.
    stack.enter_context(files.locked(folder) if is_main() else contextlib.nullcontext())
    stack.enter_context(_naming_a_full_disk(folder))
    files.check_config(folder, experiment, identity)
    with Checkpoints(folder / files.CHECKPOINTS, experiment.checkpoint, ranking_of(task)) as checkpoints:
      result = files.read_result(folder)
      if result is not None:
        show(too_few(0, trace_steps))
        return _finished(folder, result, program, checkpoints)
      if is_main():
        files.write_config(folder, experiment, identity)
      settings = {"experiment": dataclasses.asdict(experiment), "model": identity["model"]}
      description |= {**task.metadata, **settings, "inputs": describe_inputs(task.example_inputs)}
      loop = Loop(experiment, folder, model, task, description, program, checkpoints, started, trace_steps)
      with jax.debug_nans(True) if experiment.compute.debug_nans else contextlib.nullcontext():
        return loop.train(variables)


@contextlib.contextmanager
def _naming_a_full_disk(folder: Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    if is_full_disk(error):
      raise UserError(full_disk_line(folder)) from error
    raise


def _task(experiment: Experiment, task: Task | None, initial: Initial | None) -> Task:
  """The task given, which must be of this experiment if it has one, or else that of the experiment's data set."""
  if task is None:
    return ImageClassification(load_dataset(experiment, initial.preprocessing if initial else None), experiment)
  its_own = getattr(task, "experiment", None)
  if isinstance(its_own, Experiment) and its_own != experiment:
    differing = files.differences(dataclasses.asdict(its_own), dataclasses.asdict(experiment))
    raise UserError(f"the task was made from other settings ({differing}); make it from the experiment that runs.")
  return task


def _finished(folder: Path, result: dict[str, Any], program: Program, checkpoints: Checkpoints) -> TrainState:
  show(f"{folder} holds a finished run of these settings:", summary(result, folder))
  show(f"To start anew, give another --workdir (WORKDIR= with make), or delete {folder}.")
  state = checkpoints.restore(program.template, result["step"]) if result["step"] in checkpoints.steps() else None
  if state is None:
    raise UserError(
      f"{folder} has a result.json but no whole checkpoint of step {result['step']}; delete {folder / files.RESULT} "
      "and give the same command: it goes on from the checkpoint before that one, or anew."
    )
  return state


def first_batches(task: Task) -> dict[str, Batch]:
  """The first batch of "train" and of every evaluation split.

  Raises:
    UserError: an evaluation split without examples, or one that is called "train".
  """
  if "train" in task.evaluation_splits:
    raise UserError("an evaluation split must not be called 'train', as the training metrics are; rename it.")
  batches = {"train": task.train_rows(0, ALL_ROWS)}
  for split in task.evaluation_splits:
    batch = next(iter(task.evaluation_rows(split, ALL_ROWS)), None)
    if batch is None:
      raise empty_split(split)
    batches[split] = batch
  return batches


def check_task(program: Program, task: Task, batches: dict[str, Batch], batch_size: int) -> None:
  """Everything that the loop will ask of the task until the end, on the first batch of each split.

  Raises:
    UserError: names that collide, batches that do not divide over the devices, masks or sums that are missing, or
      confusion counts without class names; one line.
  """
  reserved = {*WINDOW_NAMES, "count"} & set(task.metric_names)
  if reserved or "loss" not in task.metric_names:
    wanted = f"must hold 'loss' and none of {', '.join(map(repr, (*WINDOW_NAMES, 'count')))}"
    raise UserError(f"the task's metric_names {wanted}, got {', '.join(map(repr, task.metric_names))}.")
  for split, batch in batches.items():
    rows = {name: np.shape(array)[:1] for name, array in batch.items()}
    name, size, parts = "evaluation_batch_size", task.evaluation_batch_size, 1
    if split == "train":
      name, size, parts = "batch_size", batch_size, program.micro_batches
    if set(rows.values()) != {(size,)} or size % (program.mesh.size * parts):
      sizes = ", ".join(f"{each}: {shape[0] if shape else 'none'}" for each, shape in rows.items())
      product = f" times {parts} micro_batches" if parts > 1 else ""
      raise UserError(
        f"arrays of a batch of {split!r} must have {name} = {size} rows, a multiple of the {program.mesh.size} "
        f"devices{product}, got {sizes}."
      )
    if split != "train":
      _check_evaluation(program, task, split, batch)


def _check_evaluation(program: Program, task: Task, split: str, batch: dict[str, Any]) -> None:
  if "mask" not in batch or np.ndim(batch["mask"]) != 1 or not np.any(batch["mask"]):
    raise UserError(f"a batch of {split!r} must have a mask [b] that is 1 for examples and 0 for padding, not all 0.")
  sums = jax.eval_shape(program.eval_step, program.template.params, program.template.model_state, batch)
  for name in (*task.metric_names, "count"):
    if name not in sums or sums[name].shape:
      found = f"one of shape {sums[name].shape}" if name in sums else f"only {', '.join(sums)}"
      raise UserError(f"metric_sums of {split!r} must have a scalar {name!r}, got {found}.")
  for name in {"config", "result"} & {name for name, total in sums.items() if total.shape}:
    raise UserError(f"metric_sums of {split!r} has an array {name!r}, but {name}.json is the run's own; rename it.")
  if "confusion" in sums:
    classes = task.metadata.get("class_names")
    if classes is None or sums["confusion"].shape != (len(classes),) * 2:
      names = "no" if classes is None else len(classes)
      raise UserError(
        f"a task that counts 'confusion' must have metadata['class_names'], one for each row and column, got {names} "
        f"names for counts of shape {sums['confusion'].shape}."
      )
