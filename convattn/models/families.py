"""The families of models: which module builds which spec, and the specs that have a name. A new family is a row here.

A family's spec is a frozen dataclass of settings (convattn.fields) that checks itself. Its module has the fields
`spec`, `num_classes`, `dtype`, `param_dtype` and `remat`, and is called as (images [b, h, w, c], *, train) -> logits.
What works on trained variables goes by names: the first kernel is stem/conv_1/kernel [kh, kw, c, width], the last
dense layer classifier/logits, and every table that belongs to a grid is called bias_table. `layer_decay` needs all of
them in stem, stage_N/block_M and classifier, and `freeze` names these parts.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn

from convattn.models.coatnet import CoAtNet
from convattn.models.spec import Spec
from convattn.models.variants import VARIANTS


@dataclasses.dataclass(frozen=True)
class Family:
  """The class of the specs, that of the module, and name -> spec."""

  spec: type[Any]
  module: type[Any]
  variants: dict[str, Any]


FAMILIES: dict[str, Family] = {"convattn.models.coatnet.CoAtNet": Family(Spec, CoAtNet, VARIANTS)}
"""By the class as checkpoints name it, for good: the module may move to another file, but its checkpoints do not."""


def family_of(model: nn.Module) -> tuple[str, Family] | None:
  """(class as checkpoints name it, family) of a module; None for one that no family has."""
  return next(((kind, family) for kind, family in FAMILIES.items() if type(model) is family.module), None)


def name_of(model: Any) -> str:
  """The name of the variant that a model is; of one with another spec, or of no family, that of its class."""
  found = family_of(model)
  names = [] if found is None else [name for name, spec in found[1].variants.items() if spec == model.spec]
  return names[0] if names else type(model).__name__


def family_named(name: str) -> Family | None:
  """The family that has a model of this name."""
  return next((family for family in FAMILIES.values() if name in family.variants), None)
