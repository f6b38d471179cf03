"""timm's models to the last digit, and what each known mistake would look like."""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convattn
from convattn.layers import normalization, transformer
from convattn.ops import convolutions, windows

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from reference_cases import load_case

# Reference case -> the model of ours that it must equal.
CASES = {"coatnet_0_224": "coatnet_0_224", "coatnet_0_224_paper": "coatnet_0"}
FLOAT64_TOLERANCE = 1e-10
load_case = functools.cache(load_case)


def outputs(name, variables, images, dtype, **overrides):
  """Logits and feature maps under jit at the highest precision."""
  model = convattn.create_model(name, dtype=dtype, **overrides)

  def forward(variables, images):
    return model.apply(variables, images, train=False), model.apply(variables, images, train=False, method="features")

  with jax.default_matmul_precision("highest"):
    return jax.jit(forward)(variables, jnp.asarray(images, dtype))  # XLA computes what both share once


def largest_error(ours, expected):
  return np.abs(np.asarray(ours) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
  "dtype, logits_tolerance, feature_tolerance", [("float32", 2e-6, 4e-6), ("float64", 1e-10, 1e-10)]
)
@pytest.mark.parametrize("case_name", CASES)
def test_equals_the_reference(case_name, dtype, logits_tolerance, feature_tolerance):
  case = load_case(case_name)
  with jax.enable_x64(dtype == "float64"):
    variables = convattn.pretrained.from_timm(case.model, case.state_dict)
    logits, maps = outputs(CASES[case_name], variables, case.images, dtype)
    assert [m.shape for m in maps] == case.feature_shapes
    assert largest_error(logits, case.logits) < logits_tolerance
    for m, mean, corner in zip(maps, case.means, case.corners, strict=True):
      scale = np.abs(m).max()
      assert np.abs(m.mean((1, 2)) - mean).max() < feature_tolerance * scale
      assert np.abs(m[:, 0, 0] - corner).max() < feature_tolerance * scale


def query_key_value_major(state_dict):
  """Reads the fused projection as [query | key | value][head]."""

  def regroup(array):
    heads = array.shape[0] // 96
    return array.reshape(3, heads, 32, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)

  return {name: regroup(a) if ".qkv." in name else a for name, a in state_dict.items()}


def table_not_mirrored(state_dict):
  """Reads query - key as key - query."""
  return {name: a[::-1] if name.endswith("bias_table") else a for name, a in state_dict.items()}


def same_padding(size, window, stride):
  """XLA's "SAME"."""
  total = max((-(-size // stride) - 1) * stride + window - size, 0)
  return total // 2, total - total // 2


class PoolBeforeNorm(normalization.LayerNorm):
  def __call__(self, x, *, train):
    if self.path[-1] == "attention_norm" and "block_0" in self.path:
      x = transformer_pool(x, "max", 2)
    return super().__call__(x, train=train)


transformer_pool = transformer.pool

OVERRIDES = {
  "batch_norm_epsilon": {"conv_norm_epsilon": 1e-3},
  "layer_norm_epsilon": {"attention_norm_epsilon": 1e-5},
  "tanh_gelu": {"activation": "gelu_tanh"},
  "stride_in_the_depthwise_convolution": {"conv_stride": "depthwise"},
  "average_pooling": {"pool": "avg"},
}
STATE_DICTS = {"query_key_value_major": query_key_value_major, "table_not_mirrored": table_not_mirrored}
PATCHES = {
  "same_padding": [(windows, "window_padding", same_padding), (convolutions, "window_padding", same_padding)],
  "pool_before_norm": [
    (transformer, "pool", lambda x, kind, stride: x),
    (transformer, "NORMS", {"layer": PoolBeforeNorm}),
  ],
}


@pytest.mark.parametrize("mutant", [None, *OVERRIDES, *STATE_DICTS, *PATCHES])
def test_each_known_mistake_would_be_seen(mutant, monkeypatch):
  case = load_case("coatnet_0_224_paper")
  for module, attribute, value in PATCHES.get(mutant, []):
    monkeypatch.setattr(module, attribute, value)
  with jax.enable_x64(True):
    state_dict = STATE_DICTS.get(mutant, dict)(case.state_dict)
    variables = convattn.pretrained.from_timm(case.model, state_dict)
    logits, _ = outputs("coatnet_0", variables, case.images[:1], "float64", **OVERRIDES.get(mutant, {}))
  error = largest_error(logits, case.logits[:1])
  assert (error > 10 * FLOAT64_TOLERANCE) if mutant else (error < FLOAT64_TOLERANCE)


def test_the_round_trip_is_exact():
  case = load_case("coatnet_0_224")
  back = convattn.pretrained.to_timm(case.model, convattn.pretrained.from_timm(case.model, case.state_dict))
  counters = {name for name in back if name.endswith("num_batches_tracked")}
  assert set(back) - counters == set(case.state_dict)
  assert len(back) == 227 and {back[name].dtype for name in counters} == {np.dtype(np.int64)}
  for name, array in case.state_dict.items():
    np.testing.assert_array_equal(back[name], array)
    assert back[name].dtype == array.dtype


def test_reads_a_safetensors_file_and_its_classes(tmp_path):
  from safetensors.numpy import save_file

  case = load_case("coatnet_0_224")
  few = case.state_dict | {
    "head.fc.weight": case.state_dict["head.fc.weight"][:7],
    "head.fc.bias": np.zeros(7, np.float32),
  }
  save_file(few, tmp_path / "weights.safetensors")
  variables = convattn.pretrained.from_timm("coatnet_0_224", tmp_path / "weights.safetensors")
  assert variables["params"]["classifier"]["logits"]["kernel"].shape == (768, 7)


def test_grids_come_from_the_tensors_or_from_the_image_size():
  case = load_case("coatnet_0_224")
  wide = {
    name: np.zeros((27 * 11 if "stages.2" in name else 13 * 5, a.shape[1]), np.float32) if name.endswith("table") else a
    for name, a in case.state_dict.items()
  }
  variables = convattn.pretrained.from_timm("coatnet_0_224", wide, image_size=(224, 96))
  shapes = [variables["params"][f"stage_{i}"]["block_0"]["attention"]["bias_table"].shape for i in (3, 4)]
  assert shapes == [(12, 27, 11), (24, 13, 5)]


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda s: s.pop("stem.norm1.bias"), "'stem.norm1.bias' is missing"),
    (lambda s: s.update({"norm.weight": np.zeros(3)}), "'norm.weight' is not part of it"),
    (
      lambda s: s.update({"stem.conv1.weight": np.zeros((64, 3, 5, 5))}),
      r"'stem.conv1.weight' has shape \(64, 3, 5, 5\), but must be \(64, 3, 3, 3\)",
    ),
  ],
)
def test_a_wrong_tensor_is_named(change, message):
  state_dict = dict(load_case("coatnet_0_224").state_dict)
  change(state_dict)
  with pytest.raises(ValueError, match=message):
    convattn.pretrained.from_timm("coatnet_0_224", state_dict)


def test_an_architecture_without_rules_is_refused():
  with pytest.raises(ValueError, match="no conversion rules for timm's 'coatnet_9_224'; there are for coatnet_0_224"):
    convattn.pretrained.from_timm("coatnet_9_224", {})
