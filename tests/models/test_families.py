"""A family of its own: a spec, a module and one row. Made by name, set, trained, restored, fine-tuned, exported."""

import dataclasses
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convattn
from convattn import inference, models, training
from convattn.fields import COUNT, setting
from convattn.layers import Classifier, Stem
from convattn.models import FAMILIES, Family
from convattn.models.create import check_fields
from convattn.models.spec import check_settings
from convattn.training.config import Checkpoint, Data, Experiment, Model
from convattn.training.description import completed, describe_model
from convattn.training.settings import apply_overrides, describe_settings, validate
from convattn.training.workdir import experiment_from_json


@dataclasses.dataclass(frozen=True)
class PlainSpec:
  width: int = setting(4, "width of all its layers", COUNT)
  depth: int = setting(1, "convolutions behind the first", COUNT)
  head: str = setting("plain", "its classifier: 'plain' or 'tanh'", choices=("plain", "tanh"))

  def __post_init__(self):
    check_settings(self)


class Plain(nn.Module):
  spec: PlainSpec
  num_classes: int = 1000
  dtype: Any = jnp.float32
  param_dtype: Any = jnp.float32
  remat: str = "none"

  @nn.compact
  def __call__(self, x, *, train):
    dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
    x = Stem((self.spec.width,) * (self.spec.depth + 1), name="stem", **dtypes)(x, train=train)
    return Classifier(self.num_classes, self.spec.head, name="classifier", **dtypes)(x, train=train)


ROW = Family(PlainSpec, Plain, {"plain_s": PlainSpec(), "plain_l": PlainSpec(6, 2)})
SHORT = {
  "num_steps": 3,
  "batch_size": 8,
  "eval_batch_size": 180,
  "eval_every": 3,
  "checkpoint": Checkpoint(every=3),
  "data": Data(images_per_class=2),
}


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
  monkeypatch.setitem(FAMILIES, "somewhere.Plain", ROW)


def test_no_name_is_of_two_families():
  names = convattn.list_models()
  assert len(names) == len(set(names)) and {"plain_s", "coatnet_0"} <= set(names)


def test_it_is_made_by_name_and_its_overrides_are_checked():
  model = convattn.create_model("plain_s", 3, width=5, dtype=jnp.bfloat16)
  assert model == Plain(PlainSpec(width=5), 3, jnp.bfloat16)
  assert models.spec_for("plain_l", head="tanh") == PlainSpec(6, 2, "tanh")
  for overrides, message in (
    ({"widht": 5}, "a model has no field 'widht'; did you mean width"),
    ({"stem_bias": True}, "a model has no field 'stem_bias'"),
    ({"width": 0}, "width is 0, but must be at least 1"),
    ({"width": 2.5}, "width is 2.5, but must be a whole number"),
    ({"head": "none"}, "head is 'none', but must be one of 'plain', 'tanh'"),
  ):
    with pytest.raises(convattn.errors.UserError, match=message):
      convattn.create_model("plain_s", **overrides)
  check_fields(PlainSpec, {"width": 3})


def test_its_settings_are_those_of_an_experiment():
  experiment = apply_overrides(Experiment(), [("model.width", "7"), ("seed", "3"), ("model.name", "plain_l")])
  assert experiment.model == Model("plain_l", width=7)
  assert (experiment.seed, experiment.model.overrides) == (3, {"width": 7})
  validate(experiment)
  shown = [line.split(maxsplit=1) for line in describe_settings(experiment).splitlines() if ".model." in line]
  assert [name.rpartition(".")[2] for name, _ in shown] == ["name", "width", "depth", "head"]
  assert shown[1][1].split() == ["int", "|", "None", "=", "7", "width", "of", "all", "its", "layers"]
  stored = json.loads(json.dumps(dataclasses.asdict(experiment)))
  assert stored["model"] == {"name": "plain_l", "width": 7, "depth": None, "head": None}
  assert experiment_from_json(stored) == experiment
  with pytest.raises(ValueError, match=r"model.width must be at least 1, got 0\."):
    validate(dataclasses.replace(experiment, model=Model("plain_l", width=0)))
  with pytest.raises(ValueError, match=r"there is no setting 'model.head_size'; did you mean "):
    apply_overrides(experiment, [("model.head_size", "8")])
  with pytest.raises(ValueError, match=r"there is no setting model.head_size; did you mean "):
    apply_overrides(Experiment(model=Model(head_size=8)), [("model.name", "plain_s")])
  with pytest.raises(ValueError, match=r"model.name is 'plain_s', whose settings are others; write Model\('plain_s'\)"):
    validate(Experiment(model=dataclasses.replace(Model("coatnet_0"), name="plain_s")))


def test_its_description_rebuilds_it_wherever_the_class_lies():
  model = Plain(PlainSpec(5, 2, "tanh"), 3, jnp.bfloat16)
  stored = json.loads(json.dumps(describe_model(model)))
  assert stored["class"] == "somewhere.Plain"
  assert training.model_from_description(stored) == model
  older = {**stored, "spec": {"width": 5, "head": "tanh"}}  # before there was a depth
  assert training.model_from_description(older).spec == PlainSpec(5, 1, "tanh")
  assert completed(older)["spec"] == {"width": 5, "depth": 1, "head": "tanh"}
  assert completed({"class": "elsewhere.Plain"}) == {"class": "Plain"}
  assert completed({"class": "somewhere.Plain"}) == {"class": "Plain"}  # damaged: it has no spec


@pytest.mark.usefixtures("one_device")
def test_a_run_of_it_is_restored_fine_tuned_and_exported(tmp_path):
  first = Experiment(**SHORT, model=Model("plain_s", width=5))
  state = training.run(first, tmp_path / "first")
  restored = training.restore(tmp_path / "first")
  assert restored.model == Plain(PlainSpec(width=5), 10)
  assert restored.experiment == first
  jax.tree.map(np.testing.assert_array_equal, restored.variables["params"], jax.device_get(state.params))
  # Other classes, another size: all but the last layer is kept.
  data = Data(images_per_class=2, classes="0-4", image_size=6)
  tuned = Experiment(**{**SHORT, "data": data}, model=Model("plain_s", width=5), init_from=str(tmp_path / "first"))
  tuned = dataclasses.replace(tuned, optimizer=dataclasses.replace(tuned.optimizer, freeze="stem"))
  after = training.run(tuned, tmp_path / "tuned").params
  jax.tree.map(np.testing.assert_array_equal, after["stem"], restored.variables["params"]["stem"])
  assert after["classifier"]["logits"]["kernel"].shape == (5, 5)
  with pytest.raises(ValueError, match="are of another model"):
    training.run(dataclasses.replace(tuned, model=Model("plain_l")), tmp_path / "other")
  artifact = inference.export_classifier(restored, image_size=(7, 5), platforms=("cpu",))
  pixels = np.zeros((2, 7, 5, 1), np.uint8)
  assert artifact.exported.call(pixels).shape == (2, 10)
