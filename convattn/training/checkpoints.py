"""Orbax checkpoints with digests: the newest and the best, written while training goes on."""

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from convattn.errors import UserError
from convattn.training.checkpoint_folder import METRICS, kept, ranked, remove, score_of, set_aside, step_folders
from convattn.training.config import Checkpoint
from convattn.training.distributed import is_main
from convattn.training.freezing import names_of
from convattn.training.manifest import write_manifest
from convattn.training.saving_errors import full_disk_line, is_full_disk, told_once
from convattn.training.state import TrainState, in_float32
from convattn.training.task import Ranking
from convattn.training.workdir import shape_difference


class Checkpoints:
  """The checkpoints in a directory, each with the state and with what it takes to rebuild the model (`description`).

  The newest `keep_newest` and, of those saved with the score that `ranking` names, the best `keep_best` are kept (of
  equals the later), and every `keep_every`-th: of the steps that are a multiple of that times `every`, whatever was
  saved between them. One is deleted only when a later one counts.

  A checkpoint counts when all of its files are as its manifest says (`manifest.verify`), which is written when Orbax
  has finished. All are read and verified here, once: one that a killed run did not finish is removed; any other that
  does not verify is named on stderr and moved to damaged/, never deleted, and the one before it is the latest.

  `lost_all` says, in the first process, that there were some and that none of them counts.

  With several processes each of them has one of these, on the same shared directory: the first verifies, moves, signs
  and deletes; all agree on the steps.
  """

  def __init__(self, directory: Path, settings: Checkpoint, ranking: Ranking | None):
    self._directory, self._settings, self._ranking = directory.absolute(), settings, ranking
    if is_main():
      self._directory.mkdir(parents=True, exist_ok=True)
    moved = is_main() and set_aside(self._directory)
    steps = _agreed([step for step, _ in step_folders(self._directory)])
    self.lost_all = moved and not steps
    self._scores = {step: score_of(self._folder(step), ranking) for step in steps}
    self._checkpointer = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
    self._thread = ThreadPoolExecutor(1)
    self._saving: Future[None] | None = None
    self._open = contextlib.ExitStack()
    self._open.enter_context(told_once())
    self._open.callback(self._checkpointer.close)
    self._open.callback(self._thread.shutdown)

  def save(self, step: int, state: TrainState, description: dict[str, Any], metrics: dict[str, float]) -> None:
    """Starts to write the checkpoint of `step`; the arrays may be donated as soon as this returns.

    It counts when `wait` returns, or soon before. The one before it is complete when this returns.

    Raises:
      UserError: a checkpoint of that step or a later one is already there, or the disk is full, which may be told
        of the former save; the earlier checkpoints are whole.
    """
    latest = self.latest_step()
    if latest is not None and latest >= step:
      raise UserError(
        f"no checkpoint of step {step} was saved in {self._directory}, whose latest is {latest}; "
        f"delete those that are not of this run, or use another workdir."
      )
    name = "" if self._ranking is None else self._ranking.score
    value = metrics.get(name, math.nan)
    score = {name: value} if math.isfinite(value) else {}  # what is not a number has no rank
    items = {
      "state": ocp.args.StandardSave(state),
      "description": ocp.args.JsonSave(description),
      METRICS: ocp.args.JsonSave(score),
    }
    try:
      self._checkpointer.save(self._folder(step), args=ocp.args.Composite(**items))
    except Exception as error:
      self._explain(error)
      raise
    self._saving = self._thread.submit(self._complete, step, score.get(name))

  def _complete(self, step: int, value: float | None) -> None:
    """Waits for Orbax, signs, and only then deletes what is not kept any more; in a thread of its own."""
    self._checkpointer.wait_until_finished()
    if is_main():
      write_manifest(self._folder(step))
    scores = {**self._scores, step: value}
    keep = kept(scores, self._settings, self._ranking)
    if is_main():
      for old in sorted(set(scores) - keep):
        remove(self._folder(old))
    self._scores = {each: scores[each] for each in sorted(keep)}

  def restore(self, template: TrainState, step: int | None = None) -> TrainState | None:
    """The state of `step`, or of the latest checkpoint; None where there is none. `template` gives the shardings.

    Metrics are no part of what must fit: the window's sum of one that was not counted then is nan, so that its first
    mean is null in the record, and that of one which is not counted any more is left out. Averages that were not kept
    then begin with the weights that were saved; those that are not kept any more are left out.

    Raises:
      UserError: what was saved is no state like `template`; one line.
    """
    step = self.latest_step() if step is None else step
    if step is None:
      return None
    items = ocp.args.Composite(state=ocp.args.StandardRestore(as_saved(self._folder(step), template)))
    state: TrainState = self._checkpointer.restore(self._folder(step), args=items)["state"]
    missing = jax.make_array_from_callback((), template.step.sharding, lambda _: np.float32(np.nan))
    return dataclasses.replace(
      state,
      window={name: state.window.get(name, missing) for name in template.window},
      ema=(state.ema or _first_average(state, template)) if template.ema else {},
      opt_state=jax.tree.unflatten(jax.tree.structure(template.opt_state), jax.tree.leaves(state.opt_state)),
    )

  def description(self, step: int) -> dict[str, Any]:
    """What was saved with the state of `step`."""
    self.wait()
    items = ocp.args.Composite(description=ocp.args.JsonRestore())
    return self._checkpointer.restore(self._folder(step), args=items)["description"]

  def steps(self) -> list[int]:
    """Those of the checkpoints that count, when all that was saved is complete."""
    self.wait()
    return sorted(self._scores)

  def latest_step(self) -> int | None:
    return max(self.steps(), default=None)

  def wait(self) -> None:
    """Returns when everything that was saved is complete on the disk, its manifest too.

    Raises:
      UserError: the disk is full; the earlier checkpoints are whole.
    """
    saving, self._saving = self._saving, None
    try:
      if saving is not None:
        saving.result()
    except Exception as error:
      self._explain(error)
      raise

  def best(self) -> tuple[int, float] | None:
    """(step, score) of the best checkpoint, of equals the latest; None if none has a score."""
    self.wait()
    order = ranked(self._scores, self._ranking)
    if not order:
      return None
    score = self._scores[order[-1]]
    assert score is not None  # `ranked` leaves those out
    return order[-1], score

  def best_numbers(self) -> dict[str, float]:
    """{"best/step", "best/" and the score's name} for the result, where best checkpoints are kept."""
    best = self.best()
    if best is None or self._ranking is None or not self._settings.keep_best:
      return {}
    return {"best/step": best[0], f"best/{self._ranking.score}": best[1]}

  def rank(self, scores: Mapping[int, float]) -> None:
    """Scores by step, for those of the checkpoints that were saved without one."""
    self.wait()
    for step, value in scores.items():
      if step in self._scores and self._scores[step] is None:
        self._scores[step] = value

  def _folder(self, step: int) -> Path:
    return self._directory / str(step)

  def _explain(self, error: Exception) -> None:
    """Raises a UserError in place of an error that says that the disk is full."""
    if is_full_disk(error) and not isinstance(error, UserError):
      raise UserError(full_disk_line(self._directory)) from error

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    try:
      with self._open:
        self.wait()
    except Exception as again:  # Orbax tells of some errors once more when it is closed
      self._explain(again)
      raise


def as_saved(folder: Path, template: TrainState) -> TrainState:
  """`template` as the checkpoint in `folder` has it: with its metrics, its averages or none, its optimizer's nesting.

  Raises:
    UserError: anything else differs; one line.
  """
  saved = ocp.PyTreeCheckpointHandler().metadata(folder / "state").tree
  number: Any = jax.ShapeDtypeStruct((), jnp.float32, sharding=template.step.sharding)
  averaged = template.ema or {"params": template.params, "model_state": template.model_state}
  like = dataclasses.replace(
    template,
    window=dict.fromkeys(saved.get("window", {}), number),
    ema=averaged if saved.get("ema") else {},
    opt_state=_nested_as(saved.get("opt_state"), template.opt_state),
  )
  # Orbax finds that out as well, but leaves unfinished readings behind.
  differing = shape_difference(saved, like)
  if differing:
    raise UserError(
      f"the checkpoint {folder} holds no state of this run ({differing}); delete it, or use another workdir."
    )
  return like


def _nested_as(saved: Any, template: Any) -> Any:
  """An optimizer's state in the nesting of `saved`, if it has the same leaves: what clips, or scales, adds places."""

  def names(tree: Any) -> list[list[str]]:
    paths = [names_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return [[name for name in path if not name.isdecimal()] for path in paths]

  same = names(saved) == names(template)
  return jax.tree.unflatten(jax.tree.structure(saved), jax.tree.leaves(template)) if same else template


def _first_average(state: TrainState, template: TrainState) -> Any:
  # A copy, since both the weights and their averages are donated to the next step.
  copy = jax.jit(
    lambda tree: jax.tree.map(jnp.copy, in_float32(tree)), out_shardings=jax.tree.map(_sharding, template.ema)
  )
  return copy({"params": state.params, "model_state": state.model_state})


def _sharding(leaf: Any) -> Any:
  return leaf.sharding


def _agreed(steps: list[int]) -> list[int]:
  """The steps of the first process, when it has them; another may see an older listing of a shared disk."""
  count = int(multihost_utils.broadcast_one_to_all(np.int32(len(steps))))
  if not count:
    return []
  own = np.asarray(steps if is_main() else [0] * count, np.int32)
  return [int(step) for step in multihost_utils.broadcast_one_to_all(own)]
