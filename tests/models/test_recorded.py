"""Every model's variables are those that commit dfa6c3e made: the same paths, dtypes, shapes, and drawn values.

recorded.json holds for each model the SHA-256 of "path dtype shape" of all its variables, and of models of up to 35
million parameters that of the values that key 7 draws with one version of JAX.
"""

import hashlib
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import create_model, list_models

RECORDED = json.loads(pathlib.Path(__file__).with_name("recorded.json").read_text())
MODELS = RECORDED["models"]
FEW = ("coatnet_mini_8", "test_coatnet", "coatnext_nano_rw_224")
DRAWN = [name for name, record in MODELS.items() if "values" in record]


def size_of(name):
  found = re.search(r"_mini_(\d+)$|_(224|384)$", name)
  return int(found[1] or found[2]) if found else 224


def tree_digest(name, **fields):
  model, size = create_model(name, **fields), size_of(name)
  images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  variables = jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)
  leaves = jax.tree_util.tree_leaves_with_path(variables)
  lines = [f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}" for path, leaf in leaves]
  return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def values_digest(name):
  model, size = create_model(name), size_of(name)
  images = jnp.zeros((1, size, size, 3))
  variables = jax.jit(lambda key: model.init(key, images, train=False))(jax.random.key(7))
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    digest.update(jax.tree_util.keystr(path).encode())
    digest.update(np.asarray(leaf).tobytes())
  return digest.hexdigest()


def test_no_model_of_then_is_gone():
  assert set(MODELS) <= set(list_models())


@pytest.mark.parametrize("name", FEW)
def test_the_variables_are_the_recorded_ones(name):
  assert tree_digest(name) == MODELS[name]["tree"]


def test_another_tree_has_another_digest():
  assert tree_digest("coatnet_mini_8", conv_bias=False) != MODELS["coatnet_mini_8"]["tree"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(MODELS) - set(FEW)))
def test_the_variables_of_every_model_are_the_recorded_ones(name):
  assert tree_digest(name) == MODELS[name]["tree"]


@pytest.mark.skipif(jax.__version__ != RECORDED["jax"], reason="values were recorded with another version of JAX")
@pytest.mark.parametrize(
  "name", ["coatnet_mini_8", *(pytest.param(n, marks=pytest.mark.slow) for n in DRAWN if "mini_8" not in n)]
)
def test_the_drawn_values_are_the_recorded_ones(name):
  assert values_digest(name) == MODELS[name]["values"]
