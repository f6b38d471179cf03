"""timm's models to the last digit, and what each known mistake would look like."""

import dataclasses
import pathlib
import sys
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convattn
from convattn.layers import grid_positions, normalization, transformer
from convattn.ops import convolutions, windows

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from reference_cases import load_case

# Reference case -> the model of ours that it must equal.
CASES = {
  "coatnet_0_224": "coatnet_0_224",
  "coatnet_0_224_paper": "coatnet_0",
  "coatnet_0_rw_224": "coatnet_0_rw_224",
  "coatnet_bn_0_rw_224": "coatnet_bn_0_rw_224",
  "coatnet_nano_cc_224": "coatnet_nano_cc_224",
  "coatnet_nano_rw_224": "coatnet_nano_rw_224",
  "coatnet_rmlp_1_rw_224": "coatnet_rmlp_1_rw_224",
  "coatnet_rmlp_nano_rw_224": "coatnet_rmlp_nano_rw_224",
  "coatnext_nano_rw_224": "coatnext_nano_rw_224",
  "test_coatnet": "test_coatnet",
}
# timm's own float32 error in this case is 2e-6.
LOOSE = {"coatnet_bn_0_rw_224": 5e-6}
FLOAT64_TOLERANCE = 1e-10


def outputs(name, variables, images, dtype, **overrides):
  """Logits and feature maps under jit at the highest precision."""
  model = convattn.create_model(name, dtype=dtype, **overrides)

  def forward(variables, images):
    """The maps are seen as the logits are computed, so that the model is traced once."""
    maps = []

    def listen(call, arguments, options, context):
      out = call(*arguments, **options)
      if context.method_name == "features":
        maps.extend(out)
      return out

    with nn.intercept_methods(listen):
      return model.apply(variables, images, train=False), maps

  with jax.default_matmul_precision("highest"):
    return jax.jit(forward)(variables, jnp.asarray(images, dtype))


def largest_error(ours, expected):
  return np.abs(np.asarray(ours) - expected).max() / np.abs(expected).max()


FAST = {"float32": ("test_coatnet",), "float64": ("coatnet_rmlp_nano_rw_224", "test_coatnet")}
"""The cases that the fast tests see; the longer ones see all. Of the other kinds test_gradients.py has small models."""


@pytest.mark.parametrize(
  "case_name, dtype, logits_tolerance, feature_tolerance",
  [
    pytest.param(name, *tolerances, marks=[pytest.mark.slow] * (name not in FAST[tolerances[0]]))
    for name in CASES
    for tolerances in (("float32", 2e-6, 4e-6), ("float64", 1e-10, 1e-10))
  ],
)
def test_equals_the_reference(case_name, dtype, logits_tolerance, feature_tolerance):
  case = load_case(case_name)
  with jax.enable_x64(dtype == "float64"):
    variables = convattn.pretrained.from_timm(case.model, case.state_dict)
    logits, maps = outputs(CASES[case_name], variables, case.images, dtype)
    assert [m.shape for m in maps] == case.feature_shapes
    assert largest_error(logits, case.logits) < max(logits_tolerance, LOOSE.get(case_name, 0) * (dtype == "float32"))
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
      x = transformer_pool(x, "avg", 2)
    return super().__call__(x, train=train)


transformer_pool = transformer.pool


def swin_shifts(height, width, *, dtype=np.float32):
  """Swin Transformer V2's coordinates: normalised to the grid, in units of log2(8)."""
  grid = np.stack(np.mgrid[1 - height : height, 1 - width : width], -1) / np.maximum([height - 1, width - 1], 1) * 8
  return (np.sign(grid) * np.log2(1 + np.abs(grid)) / np.log2(8)).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Mutant:
  """One known mistake, made in the tensors, in the spec or in the code."""

  case: str = "test_coatnet"
  state_dict: Callable = dict
  overrides: dict = dataclasses.field(default_factory=dict)
  patches: tuple = ()
  slow: bool = False


LARGE = "coatnet_0_rw_224"
MUTANTS = {
  "query_key_value_major": Mutant(state_dict=query_key_value_major),
  "no_activation_after_pre_norm": Mutant(LARGE, overrides={"conv_pre_norm_activation": False}, slow=True),
  "squeeze_after_norm": Mutant(LARGE, overrides={"squeeze_at": "after"}, slow=True),
  "pool_before_norm": Mutant(
    patches=(
      (transformer, "pool", lambda x, kind, stride: x),
      (normalization, "NORMS", normalization.NORMS | {"layer": PoolBeforeNorm}),
    )
  ),
  "same_padding": Mutant(
    patches=((windows, "window_padding", same_padding), (convolutions, "window_padding", same_padding))
  ),
  "table_not_mirrored": Mutant(LARGE, state_dict=table_not_mirrored, slow=True),
  "swin_coordinates": Mutant(
    "coatnet_rmlp_nano_rw_224", patches=((grid_positions, "log_shifts", swin_shifts),), slow=True
  ),
  "batch_norm_epsilon": Mutant(LARGE, overrides={"conv_norm_epsilon": 1e-3}, slow=True),
  "tanh_gelu": Mutant(LARGE, overrides={"attention_activation": "gelu_tanh"}, slow=True),
  "layer_norm_epsilon": Mutant(LARGE, overrides={"attention_norm_epsilon": 1e-5}, slow=True),
  "squeeze_activation": Mutant(LARGE, overrides={"squeeze_activation": "silu"}, slow=True),
  "stride_in_the_depthwise_convolution": Mutant(LARGE, overrides={"conv_stride": "depthwise"}, slow=True),
  "window_of_the_pool": Mutant("coatnet_rmlp_1_rw_224", overrides={"pool": "max"}, slow=True),
  "epsilon_of_the_transformer_batch_norm": Mutant(
    "coatnet_bn_0_rw_224", overrides={"attention_norm_epsilon": 1e-5}, slow=True
  ),
  "paper_stride_in_the_depthwise_convolution": Mutant(
    "coatnet_0_224_paper", overrides={"conv_stride": "depthwise"}, slow=True
  ),
  "paper_average_pooling": Mutant("coatnet_0_224_paper", overrides={"pool": "avg"}, slow=True),
  "epsilon_of_the_convnext_norm": Mutant("coatnext_nano_rw_224", overrides={"conv_norm_epsilon": 1e-5}, slow=True),
}
"""Among them every mistake whose size in the logits is known from ports of these models."""


def error_of(mutant, monkeypatch):
  case = load_case(mutant.case)
  for module, attribute, value in mutant.patches:
    monkeypatch.setattr(module, attribute, value)
  with jax.enable_x64(True):
    variables = convattn.pretrained.from_timm(case.model, mutant.state_dict(case.state_dict))
    logits, _ = outputs(CASES[mutant.case], variables, case.images[:1], "float64", **mutant.overrides)
  return largest_error(logits, case.logits[:1])


@pytest.mark.parametrize(
  "name", [pytest.param(name, marks=[pytest.mark.slow] * mutant.slow) for name, mutant in MUTANTS.items()]
)
def test_each_known_mistake_would_be_seen(name, monkeypatch):
  assert error_of(MUTANTS[name], monkeypatch) > 10 * FLOAT64_TOLERANCE
