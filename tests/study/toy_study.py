"""A small study on a few digits, of a model that compiles quickly: `get_study("WORD")`, as a study's file has it."""

import dataclasses
import os
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from convattn.fields import COUNT, setting
from convattn.layers import Classifier, Stem
from convattn.models import FAMILIES, Family
from convattn.models.spec import check_settings
from convattn.study import Setting, Study, Tuning
from convattn.training.config import Checkpoint, Data, Experiment, Model, Optimizer


@dataclasses.dataclass(frozen=True)
class PlainSpec:
  width: int = setting(4, "width of all its layers", COUNT)

  def __post_init__(self):
    check_settings(self)


class Plain(nn.Module):
  """A stem and a classifier."""

  spec: PlainSpec
  num_classes: int = 1000
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  remat: str = "none"

  @nn.compact
  def __call__(self, x, *, train):
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    x = Stem((self.spec.width,) * 2, name="stem", **dtypes)(x, train=train)
    return Classifier(self.num_classes, "plain", name="classifier", **dtypes)(x, train=train)


FAMILIES["tests.study.Plain"] = Family(PlainSpec, Plain, {"plain": PlainSpec(), "plain_wide": PlainSpec(7)})

BASE = Experiment(
  num_steps=12,
  batch_size=8,
  eval_batch_size=120,
  log_every=2,
  eval_every=12,
  data=Data(dir=os.environ.get("TOY_STUDY_DATA", ""), images_per_class=4),
  model=Model("plain"),
  optimizer=Optimizer(peak_learning_rate=0.03, schedule="constant"),
  checkpoint=Checkpoint(every=6),
)


def get_study(kind: str = "plain") -> Study:
  """Of two groups: more images, and first weights from the first group's; with "tuned" the learning rate is chosen."""
  return Study(
    title="Narrow or wide",
    question="Does a wide layer tell more digits apart?",
    paper="nothing; it is ours.",
    base=BASE,
    settings=(
      Setting("narrow", paper="84.1", group="4 images of a class"),
      Setting("wide", {"model.name": "plain_wide"}, group="4 images of a class"),
      Setting("begun", {"data.images_per_class": 3}, starts_from="narrow", group="3 images of a class", tuned=False),
      Setting("drawn", {"data.images_per_class": 3}, group="3 images of a class"),
    ),
    seeds=(0, 1),
    baselines=("narrow", "drawn"),
    tuning=Tuning("optimizer.peak_learning_rate", (0.003, 0.03), num_steps=6) if kind == "tuned" else None,
    train_images=30,
  )
