"""What the laws are tried on: functions of one signature, the laws that hold for them, and mutants that break one."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Group:
  """Functions of one signature.

  `ours` and `theirs` are right, each on both tuples of `arrays` (small and odd sizes). `laws`: name -> keywords, or a
  function of the arrays that gives them. `mutants`: "law: what is wrong" -> a function that breaks it.
  """

  arrays: tuple[tuple[Any, ...], ...]
  laws: Mapping[str, Any]
  theirs: Mapping[str, Callable[..., Any]]
  ours: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)
  mutants: Mapping[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)

  def keywords(self, law, arrays):
    given = self.laws[law]
    return given(*arrays) if callable(given) else given


def laws(names="", **others):
  """law -> keywords: laws without any by name, and others with theirs, or with no more than `argnums`."""
  plain = {law: {} for law in names.split()}
  given = {law: each if isinstance(each, dict) or callable(each) else {"argnums": each} for law, each in others.items()}
  return plain | given


def draw(*shapes, seed=0):
  rng = np.random.default_rng(seed)
  return tuple(jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in shapes)
