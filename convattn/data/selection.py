"""A part of a data set: some of its classes, and a few training images of each."""

import collections
import dataclasses
from typing import Any

import numpy as np

from convattn.data.sources import Dataset, LabelledSource
from convattn.errors import UserError

_NO_CLASS = -1
_DIGITS = 6
"""No data set has a million classes; a range of many more would not fit in memory."""


def parse_classes(text: str) -> tuple[int, ...]:
  """The labels that a text such as '0-4' or '0,3,7' or '0-2,5' names, in its order; empty: none.

  Raises:
    UserError: text of another form, a range that runs backwards, or a label named twice; one line.
  """
  labels: list[int] = []
  for part in text.split(",") if text.strip() else ():
    first, dash, last = (each.strip() for each in part.partition("-"))
    if not _is_number(first) or (dash and not _is_number(last)):
      raise UserError(f"classes must be labels such as '0-4' or '0,3,7', got {text!r}.")
    if dash and int(last) < int(first):
      raise UserError(f"a range of classes must rise, got {part.strip()!r} in {text!r}; write {last}-{first}.")
    if max(len(first), len(last)) > _DIGITS:
      raise UserError(f"classes must be labels of up to {_DIGITS} digits, got {part.strip()[:60]!r}.")
    labels.extend(range(int(first), int(last if dash else first) + 1))
  repeated = sorted(label for label, count in collections.Counter(labels).items() if count > 1)
  if repeated:
    raise UserError(f"classes must name each label once, got {text!r} with {repeated[0]} more than once.")
  return tuple(labels)


def _is_number(text: str) -> bool:
  return text.isascii() and text.isdecimal()


def select(dataset: Dataset, *, classes: str = "", images_per_class: int = 0, seed: int = 0) -> Dataset:
  """The data set with some of its classes in all splits, and of its training images `images_per_class` of each.

  The labels of the classes chosen become 0, 1, ... in the order of `classes`, and class_names follow them. The training
  images of class c, as it was numbered before, are put into the order numpy.random.default_rng(SeedSequence(seed,
  spawn_key=(c,))).permutation draws; the first `images_per_class` of it remain, in the order they had in the data set.
  So another seed is another draw, fewer images are some of the more, and no class depends on which others are chosen.

  Args:
    dataset: its sources are LabelledSource.
    classes: see `parse_classes`; empty: all, as they are.
    images_per_class: 0: all.
    seed: at least 0; without `images_per_class` it changes nothing.

  Raises:
    UserError: a malformed text, a class that is not there, a class of fewer images, a number below 0; one line.
  """
  for name, value in (("images_per_class", images_per_class), ("subset_seed", seed)):
    if value < 0:
      raise UserError(f"{name} must be at least 0, got {value}.")
  chosen = parse_classes(classes) or tuple(range(dataset.num_classes))
  beyond = [label for label in chosen if label >= dataset.num_classes]
  if beyond:
    raise UserError(
      f"classes must be labels of the data set, 0 to {dataset.num_classes - 1}, got {beyond[0]} in {classes!r}."
    )
  if not classes.strip() and not images_per_class:
    return dataset
  names = tuple(dataset.class_names[label] for label in chosen)
  sources = dataset.labelled
  if images_per_class:
    kept = _draw(sources["train"].labels, dict(zip(chosen, names, strict=True)), images_per_class, seed)
    sources["train"] = sources["train"].take(kept, sources["train"].labels[kept])
  renumbered: dict[str, Any] = {
    split: _renumbered(source, chosen, dataset.num_classes) for split, source in sources.items()
  }
  return dataclasses.replace(dataset, **renumbered, class_names=names)


def _draw(labels: np.ndarray, names: dict[int, str], images_per_class: int, seed: int) -> np.ndarray:
  kept = []
  for label, name in names.items():
    candidates = np.flatnonzero(labels == label)
    if len(candidates) < images_per_class:
      raise UserError(
        f"images_per_class must be at most {len(candidates)}, the training images of class {label} ({name}), got "
        f"{images_per_class}; take fewer, or leave the class out."
      )
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(label,)))
    kept.append(rng.permutation(candidates)[:images_per_class])
  return np.sort(np.concatenate(kept))


def _renumbered(source: LabelledSource, chosen: tuple[int, ...], num_classes: int) -> LabelledSource:
  numbers = np.full(num_classes, _NO_CLASS, np.int32)
  numbers[list(chosen)] = np.arange(len(chosen))
  labels = numbers[source.labels]
  indexes = np.flatnonzero(labels != _NO_CLASS)
  return source.take(indexes, labels[indexes])
