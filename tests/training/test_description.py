"""What is stored beside the numbers: enough to rebuild a model, and to tell one run from another."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import create_model
from convattn.training import ImageClassification, model_from_description, run, workdir as files
from convattn.training.checkpoints import Checkpoints
from convattn.training.description import describe_data, describe_model
from convattn.training.task import Ranking
from convattn.training.workdir import differences


class Small(nn.Module):
  width: int = 3
  activation: object = nn.gelu
  inner: nn.Module | None = None


@pytest.mark.slow
def test_a_checkpoint_alone_rebuilds_its_coatnet(toy, tmp_path, capsys):
  model, experiment = toy.coatnet(dtype=jnp.bfloat16, remat="block"), toy.short(4)
  task = ImageClassification(toy.dataset(), experiment)
  state = run(experiment, tmp_path, model=model, task=task)
  shown = capsys.readouterr().out.splitlines()
  assert shown[0] == f"{jax.device_count()} × cpu | bfloat16 | matmul precision default"
  assert [line.split()[0] for line in shown[1:7]] == ["data:", "part", "stem", "stage_1", "stage_2", "classifier"]
  with Checkpoints(tmp_path / files.CHECKPOINTS, experiment.checkpoint, Ranking("validation/accuracy")) as checkpoints:
    description = checkpoints.description(4)
  assert files.experiment_from_json(description["experiment"]) == experiment
  assert description["image_shape"] == [5, 7, 2]
  rebuilt = model_from_description(description["model"])
  assert rebuilt.spec == model.spec
  images = np.random.default_rng(0).normal(size=(3, 5, 7, 2)).astype(np.float32)
  variables = {"params": state.params, **state.model_state}
  logits = [each.apply(variables, images, train=False) for each in (model, rebuilt)]
  np.testing.assert_array_equal(*logits)
  assert np.ptp(logits[0]) > 0


@pytest.mark.parametrize("fields", [{"num_classes": 7}, {"remat": "dots"}, {"dtype": jnp.float16}, {"head": "plain"}])
def test_each_field_of_a_coatnet_survives_json(fields):
  model = create_model("coatnet_0", **fields)
  stored = json.loads(json.dumps(describe_model(model)))
  rebuilt = model_from_description(stored)
  assert rebuilt.spec == model.spec
  assert describe_model(rebuilt) == describe_model(model) != describe_model(create_model("coatnet_0"))


def test_two_spellings_of_a_dtype_are_one():
  assert describe_model(create_model("coatnet_0", dtype="float32")) == describe_model(create_model("coatnet_0"))


def test_another_model_is_told_by_its_class_and_fields_but_not_rebuilt():
  first = describe_model(Small())
  assert first["class"].endswith("Small")
  assert "0x" not in json.dumps(first)  # an address would be another one in the next process
  assert first == describe_model(Small())
  for other in (Small(width=5), Small(activation=nn.relu), Small(inner=nn.Dense(3))):
    assert describe_model(other) != first
  with pytest.raises(ValueError, match=r"rebuilds the models of convattn.list_models\(\) only, got .*Small'"):
    model_from_description(first)


def test_data_are_told_by_metadata_and_first_batches():
  batches = {"train": {"image": np.arange(6).reshape(2, 3)}}
  first = describe_data({"class_names": ("a", "b")}, batches)
  assert differences(first, describe_data({"class_names": ["a", "b"]}, batches)) == ""
  assert "metadata.class_names: ['a', 'b'] there" in differences(first, describe_data({"class_names": ["a"]}, batches))
  changed = {"train": {"image": np.arange(1, 7).reshape(2, 3)}}
  assert differences(first, describe_data({"class_names": ["a", "b"]}, changed)).startswith("sha256.train: ")
  with pytest.raises(ValueError, match="metadata must be JSON"):
    describe_data({"mean": np.ones(3)}, batches)
