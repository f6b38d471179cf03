"""`run`: everything that must be right before the first update, then the loop."""

import contextlib
import dataclasses
import os
import time
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax

from convattn.data.overview import overview
from convattn.errors import UserError
from convattn.models import spec_for
from convattn.training import output, workdir as files
from convattn.training.changes import Change, check_steps, data_before, is_finished
from convattn.training.checkpoints import Checkpoints
from convattn.training.classification import ImageClassification, load_dataset
from convattn.training.config import Experiment
from convattn.training.description import TASK_PASSED, describe_data, describe_inputs, describe_model
from convattn.training.determinism import request_deterministic_kernels
from convattn.training.distributed import is_main
from convattn.training.init_from import as_template, find_initial, initial_variables
from convattn.training.loop import Loop
from convattn.training.program import Program, build, make_model, run_keys
from convattn.training.progress import device_line, show, summary, unused_gpu_warning
from convattn.training.readme import account_of
from convattn.training.saving_errors import naming_a_full_disk
from convattn.training.settings import validate, validate_batch_sizes
from convattn.training.sharding import make_mesh
from convattn.training.state import TrainState, sha256
from convattn.training.task import Task, close, ranking_of
from convattn.training.task_checks import check_task, first_batches
from convattn.training.tracing import too_few


def run(
  experiment: Experiment,
  workdir: str | os.PathLike[str],
  model: nn.Module | None = None,
  task: Task | None = None,
  *,
  variables: dict[str, Any] | None = None,
  trace_steps: int = 0,
  changes: Literal["refuse", "continue"] = "refuse",
  command: str = "",
) -> TrainState:
  """Trains to the end, from the last checkpoint in `workdir` if there is one, and returns the final state.

  The same call continues a run that was killed, and ends as if it had not been; "seconds" of its result.json is the
  time of all its processes, of a killed one up to its last line in metrics.jsonl. A finished run is not trained again:
  its result is printed and its final state returned. Where settings are others than those that the workdir records,
  config.json says in "history" after which step they changed; the result of a run that had finished, and goes on for
  more steps, is kept in earlier/STEP/. The signals that end a job (training/signals.py) end it
  after the update, or the evaluation's batch, in progress, with a checkpoint of that update (they are Python's to catch
  in the main thread only). Where nobody reads what is printed any more, it goes on without.
  JAX's own settings stay as they are, but compute.deterministic adds a flag to the process's XLA_FLAGS.

  Args:
    experiment: the settings; `model` and `task` take the place of what they say about model and data.
    workdir: where all that a run leaves goes (docs/runs.md): settings, metrics, checkpoints, result.
    model: a linen module called as `model.apply(variables, inputs, train=...)`; None: the experiment's, by name.
    task: such as ImageClassification(dataset, experiment); None: that of the experiment's data set.
    variables: first ones in the place of drawn ones, of the structure that `model.init` gives, for a model that
      `init_from` does not know; a run that has a checkpoint goes on from that.
    trace_steps: updates whose timeline goes to profile/ in the workdir, once the first two have compiled; 0: none.
    changes: "continue" a run that has begun with the settings given, where they are others than its own; or "refuse"
      to, but of those that change freely (`change` in training/config.py). Some are refused always.
    command: what README.md in the workdir says to run it again; empty: this call.

  Raises:
    UserError: a setting, data, weights of init_from, or a task that does not supply what the run will ask for; a
      workdir that is in use, damaged, or of other settings, another model or other data; a full disk. One line each.
    FloatingPointError: the loss or gradient of more than `max_skipped_steps` updates was not finite; none of them is in
      a checkpoint.
    Terminated: SIGTERM or another signal that ends a job came, and the state is saved; a SystemExit of status 0.
    KeyboardInterrupt: Ctrl-C came, and the state is saved; at the second one at once, without.
  """
  with output.guarded(goes_on=True):
    return _run(experiment, workdir, model, task, variables, trace_steps, changes, command)


def _run(
  experiment: Experiment,
  workdir: str | os.PathLike[str],
  model: nn.Module | None,
  task: Task | None,
  variables: dict[str, Any] | None,
  trace_steps: int,
  changes: str,
  command: str,
) -> TrainState:
  started = time.perf_counter()
  passed = {"model": model, "task": task, "variables": variables}
  with contextlib.ExitStack() as stack:
    if task is not None:
      stack.callback(close, task)
    validate(experiment)
    continued = _are_continued(changes)
    folder = Path(workdir).expanduser().absolute()
    recorded = files.check_config(folder, experiment, continued=continued)
    if experiment.compute.deterministic:
      request_deterministic_kernels()
    result = files.read_result(folder)
    check_steps(folder, recorded, experiment, result)
    finished = is_finished(recorded, experiment, result)
    mesh = make_mesh(fsdp=1 if finished else experiment.compute.fsdp)
    if not finished:  # whose result can be read with any number of devices
      validate_batch_sizes(experiment, mesh.size)
    devices = device_line(mesh.devices.flatten().tolist(), experiment.compute, model)
    if model is None:
      spec_for(experiment.model.name, **experiment.model.overrides)  # refused before weights and data are read
    if variables is not None and experiment.init_from:
      raise UserError(f"init_from is {experiment.init_from!r}, but variables are given as well; leave one of them out.")
    initial = find_initial(experiment, folder)
    description: dict[str, Any] = {TASK_PASSED: True} if task is not None else {}
    if task is None:
      data = dataclasses.replace(experiment.data, exif=files.turns_pictures_of(recorded, experiment.data))
      loaded = load_dataset(dataclasses.replace(experiment, data=data), initial.preprocessing if initial else None)
      task = ImageClassification(loaded, experiment)
      stack.callback(close, task)
    _check_own_settings(task, experiment)
    show(devices, unused_gpu_warning())
    if isinstance(task, ImageClassification):
      show(*overview(task.dataset, "" if TASK_PASSED in description else experiment.data.dir))
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
        variables = initial_variables(
          initial.restored,
          model,
          task,
          program.template,
          run_keys(experiment.seed)[0],
          adapt_channels=experiment.adapt_channels,
        )
    # Locked here, when all else has been checked: what is refused leaves no workdir behind.
    stack.enter_context(files.locked(folder) if is_main() else contextlib.nullcontext())
    stack.enter_context(naming_a_full_disk(folder))
    then = {**identity, "data": data_before(task, recorded, experiment) or identity["data"]}
    recorded, result = files.check_config(folder, experiment, then, continued=continued), files.read_result(folder)
    with Checkpoints(folder / files.CHECKPOINTS, experiment.checkpoint, ranking_of(task)) as checkpoints:
      if result is not None and is_finished(recorded, experiment, result):
        show(too_few(0, trace_steps))
        return _finished(folder, result, program, checkpoints)
      settings = {"experiment": dataclasses.asdict(experiment), "model": identity["model"]}
      description |= {**task.metadata, **settings, "inputs": describe_inputs(task.example_inputs)}
      change = Change(folder, recorded, experiment, identity, result)
      account = account_of(experiment, workdir, task.metadata, devices, command, **passed)
      loop = Loop(
        experiment, folder, model, task, description, program, checkpoints, started, change, account, trace_steps
      )
      with jax.debug_nans(True) if experiment.compute.debug_nans else contextlib.nullcontext():
        return loop.train(variables)


def _are_continued(changes: str) -> bool:
  if changes not in ("refuse", "continue"):
    raise UserError(f"changes must be 'refuse' or 'continue', got {changes!r}.")
  return changes == "continue"


def _check_own_settings(task: Task, experiment: Experiment) -> None:
  """A task that has an experiment must be made of this one."""
  its_own = getattr(task, "experiment", None)
  if isinstance(its_own, Experiment) and its_own != experiment:
    differing = files.differences(dataclasses.asdict(its_own), dataclasses.asdict(experiment))
    raise UserError(f"the task was made from other settings ({differing}); make it from the experiment that runs.")


def _finished(folder: Path, result: dict[str, Any], program: Program, checkpoints: Checkpoints) -> TrainState:
  show(f"{folder} holds a finished run of these settings:", summary(result, folder))
  show(
    "To go on for longer, add --continue and a larger --config.num_steps; to start anew, give another --workdir "
    f"(WORKDIR= with make), or delete {folder}."
  )
  state = checkpoints.restore(program.template, result["step"]) if result["step"] in checkpoints.steps() else None
  if state is None:
    raise UserError(
      f"{folder} has a result.json but no whole checkpoint of step {result['step']}; delete {folder / files.RESULT} "
      "and give the same command: it goes on from the checkpoint before that one, or anew."
    )
  return state
