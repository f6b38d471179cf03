"""What a study is: a question, the settings that are compared, and the seeds that each of them is run with."""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from convattn.errors import UserError
from convattn.training.config import Experiment


@dataclasses.dataclass(frozen=True)
class Setting:
  """One row of the table: what it changes in the study's base experiment.

  Attributes:
    name: a letter or digit, then letters, digits, "_" and "-", at most 32; a folder is called so.
    changes: {dotted name of an experiment's setting: value}, such as {"model.name": "vit_rel_28"}.
    paper: what the paper reports for it, a few words for a cell of the table; empty: nothing.
    starts_from: another setting, from whose finished run of the same seed this one takes its first weights
      (`init_from`); empty: as `changes` say.
    group: settings of one group are compared with its baseline.
    tuned: whether it takes part in the study's tuning, if there is some.
  """

  name: str
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  paper: str = ""
  starts_from: str = ""
  group: str = ""
  tuned: bool = True

  def __post_init__(self) -> None:
    _check_kinds(self)


@dataclasses.dataclass(frozen=True)
class Tuning:
  """The budget that every tuned setting has alike: one run for each candidate, scored on the validation part.

  Of equal candidates the first is taken. A run that starts from another setting's starts from that one's first seed.

  Attributes:
    setting: the dotted name of the experiment's setting that is chosen, such as "optimizer.peak_learning_rate".
    candidates: its values.
    seed: of these runs; none of the study's.
    num_steps: of these runs; 0: as many as the setting's own have.
  """

  setting: str
  candidates: Sequence[Any]
  seed: int = 1000
  num_steps: int = 0

  def __post_init__(self) -> None:
    _check_kinds(self)


@dataclasses.dataclass(frozen=True)
class Study:
  """Settings × seeds, and what is asked of them.

  Attributes:
    title: a few words.
    question: what it answers, a sentence.
    paper: what the paper says about it, a sentence with its source.
    base: the experiment that the settings change.
    settings: the rows, in the order of the table.
    seeds: each setting is run with each; differences are taken seed by seed.
    baselines: names of settings, one of each group, from which the others of the group are told apart.
    tuning: None: none of the settings was tuned.
    seeded: the settings of an experiment that take the seed's value. With "data.subset_seed" each seed sees images of
      its own where a run keeps a part of them, the same ones in every setting.
    train_images: training images, at most, on which a run is scored when it has ended; drawn once, alike for all.
  """

  title: str
  question: str
  paper: str
  base: Experiment
  settings: Sequence[Setting]
  seeds: Sequence[int]
  baselines: Sequence[str]
  tuning: Tuning | None = None
  seeded: Sequence[str] = ("seed",)
  train_images: int = 10_000

  def __post_init__(self) -> None:
    _check_kinds(self)

  def with_base(self, base: Experiment) -> "Study":
    """The same study of another experiment."""
    return dataclasses.replace(self, base=base)

  def named(self, name: str) -> Setting:
    """The setting of that name."""
    return next(setting for setting in self.settings if setting.name == name)

  def baseline_of(self, setting: Setting) -> str:
    """The name of the baseline of its group."""
    return next(name for name in self.baselines if self.named(name).group == setting.group)

  def is_tuned(self, setting: Setting) -> bool:
    return self.tuning is not None and setting.tuned


def _check_kinds(value: Setting | Tuning | Study) -> None:
  """Whether each field is of the kind that it is declared with: seeds=3 and paper=84.1 are told where they stand.

  Raises:
    UserError: one is not; one line.
  """
  for name, kind in typing.get_type_hints(type(value)).items():
    if not _is_of(getattr(value, name), kind):
      wanted = f"{type(value).__name__}'s {name} must be {_told(kind)}"
      raise UserError(f"{wanted}, got {getattr(value, name)!r:.100}.")


_KINDS = {str: "a text", int: "a whole number", bool: "True or False", type(None): "None"}


def _told(kind: Any) -> str:
  inside = typing.get_args(kind)
  if isinstance(kind, types.UnionType):
    return " or ".join(map(_told, inside))
  if typing.get_origin(kind) is Mapping:
    return "a dict of names and values"
  if typing.get_origin(kind) is Sequence:
    return "a list" if inside[0] is Any else f"a list, each {_told(inside[0])}"
  return _KINDS.get(kind, f"{kind.__name__}(...)")


def _is_of(value: Any, kind: Any) -> bool:
  inside = typing.get_args(kind)
  if isinstance(kind, types.UnionType):
    return any(_is_of(value, each) for each in inside)
  if typing.get_origin(kind) is Mapping:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
  if typing.get_origin(kind) is Sequence:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(_is_of(each, inside[0]) for each in value)
  return kind is Any or (isinstance(value, kind) and not (kind is int and isinstance(value, bool)))
