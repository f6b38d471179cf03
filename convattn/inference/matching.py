"""Data whose classes are those of a model, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from convattn import pretrained
from convattn.data import Dataset
from convattn.errors import UserError
from convattn.training.restoring import Classifier, outputs_of

_LISTED = 3
_NO_CLASS = -1


@dataclasses.dataclass(frozen=True)
class Matched:
  """What differs between the classes of a model and those of data; empty where nothing does.

  Attributes:
    missing: classes of the model that the data lack; images may still be taken for one of them.
    extra: classes of the data that the model lacks; their images are left out.
    by_number: the first class that is called otherwise, where names are no more than numbers on one side.
  """

  missing: tuple[str, ...] = ()
  extra: tuple[str, ...] = ()
  by_number: str = ""

  def notes(self) -> list[str]:
    """A line for each difference that a reader of the scores has to know."""
    lines = []
    if self.by_number:
      lines.append(f"classes are compared by their number, but named differently: {self.by_number}")
    if self.missing:
      lines.append(f"the data lack {_listed(self.missing)} of the model; the others are matched by name")
    if self.extra:
      lines.append(f"the model does not know {_listed(self.extra)} of the data; images of such are left out")
    return lines


def match_classes(restored: Classifier, dataset: Dataset) -> tuple[Dataset, Matched]:
  """The data with the classes of the model in its order, matched by name; a WordNet id is as good as the name.

  Where no name is common to both and those of one side are its numbers ("7", "class_7"), numbers are compared.

  Raises:
    UserError: no class in common, or images of a size that the model does not take.
  """
  ours, theirs = restored.class_names, dataset.class_names
  numbers, matched = matching(ours, theirs)
  if numbers is None:
    raise UserError(
      f"the model of {restored.source} has {_counted(ours)}, but the data have {_counted(theirs)}, and none has the "
      f"same name; name data of its classes with --config.data.name, .dir and .classes."
    )
  outputs_of(restored, jax.ShapeDtypeStruct((1, *dataset.image_shape), "float32"))
  if numbers != list(range(len(ours))):
    table, sources = np.array(numbers, np.int32), {}
    for split, source in dataset.labelled.items():
      labels = table[source.labels]
      kept = np.flatnonzero(labels != _NO_CLASS)
      sources[split] = source.take(kept, labels[kept])
    dataset = dataclasses.replace(dataset, **sources)  # type: ignore[arg-type]
  return dataclasses.replace(dataset, class_names=tuple(ours)), matched


def matching(ours: Sequence[str], theirs: Sequence[str]) -> tuple[list[int] | None, Matched]:
  """(for each of `theirs` its number among `ours`, -1 for none; what differs); None where nothing is common."""
  here, there = _keys(ours), _keys(theirs)
  number_of = {key: number for number, key in enumerate(here)}
  numbers = [number_of.get(key, _NO_CLASS) for key in there]
  if set(numbers) == {_NO_CLASS}:
    if len(ours) != len(theirs) or not (_is_numbered(ours) or _is_numbered(theirs)):
      return None, Matched()
    return list(range(len(ours))), Matched(by_number=f"class 0 is {ours[0]!r} to the model, {theirs[0]!r} in the data")
  missing = tuple(name for number, name in enumerate(ours) if number not in numbers)
  extra = tuple(name for name, number in zip(theirs, numbers, strict=True) if number == _NO_CLASS)
  return numbers, Matched(missing, extra)


def _keys(names: Sequence[str]) -> list[tuple[str, int]]:
  """Each name in its readable form, and how many of the classes before it are called so too."""
  synsets, keys, seen = pretrained.synset_names(), [], dict[str, int]()
  for name in names:
    readable = synsets.get(name, name)
    keys.append((readable, seen.get(readable, 0)))
    seen[readable] = seen.get(readable, 0) + 1
  return keys


def _is_numbered(names: Sequence[str]) -> bool:
  prefix = names[0].removesuffix("0")
  return all(name == f"{prefix}{number}" for number, name in enumerate(names))


def _listed(names: Sequence[str]) -> str:
  shown = ", ".join(map(repr, names[:_LISTED]))
  more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
  return f"the class{'es' if len(names) > 1 else ''} {shown}{more}"


def _counted(names: Sequence[str]) -> str:
  return f"{len(names)} class{'es' if len(names) > 1 else ''} ({', '.join(map(repr, names[:_LISTED]))} ...)"
