"""How many images, and which states of a training, a page has room for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from convattn.errors import UserError, counted
from convattn.inference import Classifier
from convattn.training.checkpoint_folder import step_folders
from convattn.viz.page_size import PageSize, page_size

MOST_STATES = 12
"""Of a training, in a page."""


@dataclasses.dataclass(frozen=True)
class PagePlan:
  """What a page will hold.

  Attributes:
    layers: shell pattern of the names of the layers that attend.
    count: images.
    states: (step, folder) of the checkpoints on the slider over the training.
    megabytes: an estimate.
    notes: what was left out, a line each.
  """

  layers: str
  count: int
  states: tuple[tuple[int, Path], ...]
  megabytes: float
  notes: tuple[str, ...] = ()


def plan_page(
  restored: Classifier,
  compare: Classifier | None = None,
  *,
  layers: str | None = None,
  megabytes: float,
  count: int | None = None,
  most: int,
) -> PagePlan:
  """A page within `megabytes` (10^6 bytes), from shapes alone: nothing is computed.

  Args:
    restored: the model.
    compare: another one that is shown beside it.
    layers: shell pattern of the names of the layers that attend; None: all, or where these have no room the last.
    megabytes: of the page, at most.
    count: images that are wanted; None: at most `most`, as many as there is room for.
    most: images, where their number is left open.

  Raises:
    UserError: there is no room for one image, or for as many as are wanted; no layer is called so; or the models take
      other images. One line says what to leave out.
  """
  if compare is not None:
    check_alike(restored, compare)
  whole, pattern, notes = _whole(restored, compare, layers or "*"), layers or "*", []
  if layers is None and whole.images(megabytes) < (count or 1):
    pattern = _narrower(whole.layers)
    notes = [f"there is room for the layers {pattern} alone; --layers names others, --max-megabytes makes room"]
    whole = _whole(restored, compare, pattern)
  fit = whole.images(megabytes)
  wanted = min(most, max(fit, 1)) if count is None else count
  if wanted > fit:
    raise UserError(_too_large(whole, wanted, fit, megabytes))
  if count is None and wanted < most:
    notes.append(f"there is room for {counted(wanted, 'image')}; --max-megabytes or --layers makes more")
  found = kept_states(restored)
  states = spread(found, min(MOST_STATES, whole.steps(megabytes, wanted)))
  if len(states) < len(found):
    kept = f"{len(states)} of the {len(found)} states" if states else f"none of the {len(found)} states"
    notes.append(f"the slider has {kept} that the run kept; --max-megabytes, --count or --layers makes room")
  return PagePlan(pattern, wanted, tuple(states), whole.megabytes(wanted, len(states)), tuple(notes))


def kept_states(restored: Classifier) -> list[tuple[int, Path]]:
  """(step, folder) of the checkpoints that `checkpoint.keep_every` kept, up to the restored one, which is the last.

  None where the run kept none, or there is only one.
  """
  if restored.experiment is None or restored.step is None or not restored.experiment.checkpoint.keep_every:
    return []
  own, settings = Path(restored.source), restored.experiment.checkpoint
  apart = settings.keep_every * settings.every
  found = [
    (step, folder)
    for step, folder in step_folders(own.parent)
    if step <= restored.step and (folder == own or step % apart == 0)
  ]
  return found if len(found) > 1 else []


def spread(states: list[tuple[int, Path]], most: int) -> list[tuple[int, Path]]:
  """At most so many of them, evenly chosen, the first and the last among them; none in the place of one."""
  if len(states) <= most:
    return states
  return [states[round(i * (len(states) - 1) / (most - 1))] for i in range(most)] if most > 1 else []


def image_shape(restored: Classifier) -> tuple[int, int, int]:
  """(height, width, channels) of the images that it takes."""
  return (*restored.preprocessing.image_size, len(restored.preprocessing.mean))


def check_alike(restored: Classifier, other: Classifier) -> None:
  """Whether two classifiers can be shown on the same images.

  Raises:
    UserError: they take images of different sizes, or channels.
  """
  ours, theirs = image_shape(restored), image_shape(other)
  if ours != theirs:
    raise UserError(
      f"{other.source} takes images of {' × '.join(map(str, theirs))}, but {restored.source} of "
      f"{' × '.join(map(str, ours))}; compare with a model of the same image size."
    )


def _whole(restored: Classifier, compare: Classifier | None, layers: str) -> PageSize:
  """Of a page of one model, or two."""
  size = _size(restored, layers)
  if compare is None:
    return size
  other = _size(compare, layers)
  names = (*size.layers, *other.layers)
  return PageSize(names, size.once + other.once, size.each + other.each, size.step, size.step_each)


def _size(restored: Classifier, layers: str) -> PageSize:
  shape, classes = image_shape(restored), len(restored.class_names)
  return page_size(restored.model, restored.variables, shape, classes, layers)


def _too_large(size: PageSize, wanted: int, fit: int, megabytes: float) -> str:
  layers, needed = counted(len(size.layers), "layer"), size.megabytes(wanted)
  fewer = [f"images (--count={fit})"] * bool(fit)
  fewer += [f"layers (--layers='{_narrower(size.layers)}')"] * (len(size.layers) > 1)
  advice = f"leave out {' or '.join(fewer)}, or raise" if fewer else "raise"
  return (
    f"a page of {counted(wanted, 'image')} and {layers} would have {needed:.1f} MB, above --max-megabytes="
    f"{megabytes:g}; {advice} --max-megabytes."
  )


def _narrower(names: tuple[str, ...]) -> str:
  """A pattern of fewer of these layers: those of the last stage, or the last one alone."""
  last = names[-1]
  stage = f"{last.partition('/')[0]}/*"
  return last if all(name.startswith(stage[:-1]) for name in names) else stage
