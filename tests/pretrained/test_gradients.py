"""A training step's gradient for each kind of timm's models, against that of the plain reference in float64."""

import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import plain_coatnet
from reference_cases import FOLDER, load_case
from shrunken import shrunken

KINDS = (
  "coatnet_0_224",  # the paper's widths and head, GELU
  "coatnet_0_rw_224",  # SE with ReLU in front of the norm, stride in a mean
  "coatnet_2_rw_224",  # SE with SiLU behind the norm
  "coatnet_bn_0_rw_224",  # BatchNorm throughout
  "coatnet_nano_rw_224",  # biases in MBConv, no activation after its first norm
  "coatnet_nano_cc_224",  # convolution, then attention in one stage
  "coatnet_rmlp_1_rw_224",  # positions from an MLP, maximum over 3x3
  "coatnet_rmlp_2_rw_224",  # LayerScale in Transformer blocks
  "coatnext_nano_rw_224",  # ConvNeXt blocks, with LayerScale
)
# Between them they have every field that the others have.
FAST = {"coatnet_0_224", "coatnext_nano_rw_224"}
# Relative to the largest value of each tensor, or a thousandth of the largest of all. Measured: 2e-14, 5e-5.
TOLERANCE = {"float64": 1e-11, "float32": 1e-4}
FLOOR = 1e-3


def compiled(function, *arguments):
  """Runs a program that is used once: LLVM's optimisation would take half of the time."""
  return jax.block_until_ready(jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})(*arguments))


def cross_entropy(logits, labels):
  return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * jax.nn.one_hot(labels, logits.shape[-1]), -1))


@functools.cache
def reference(name, statistics=plain_coatnet.of_the_batch):
  """((loss, (logits, BatchNorm's mean and variance by name)), gradients), by timm's names."""
  model = shrunken(name)
  with jax.enable_x64(True):
    buffers = {key: jnp.asarray(a) for key, a in model.state_dict.items() if "running_" in key}
    weights = {key: jnp.asarray(a) for key, a in model.state_dict.items() if key not in buffers}

    def loss(weights, images):
      state_dict = weights | buffers
      logits, _, seen = plain_coatnet.forward(state_dict, images, facts=model.facts, statistics=statistics)
      return cross_entropy(logits, model.labels), (logits, seen)

    return jax.device_get(
      compiled(jax.value_and_grad(loss, has_aux=True), weights, jnp.asarray(model.images, "float64"))
    )


@functools.cache
def ours(name, dtype):
  """((loss, (logits, running averages)), gradients), by timm's names and in its shapes."""
  model = shrunken(name)
  with jax.enable_x64(dtype == "float64"):
    variables = jax.tree.map(lambda a: jnp.asarray(a, dtype), model.ours(model.state_dict))

    def loss(params, images):
      everything = {**variables, "params": params}
      logits, updates = model.model(dtype).apply(everything, images, train=True, mutable=["batch_stats"])
      return cross_entropy(logits, model.labels), (logits, updates)

    (value, (logits, updates)), gradients = jax.device_get(
      compiled(jax.value_and_grad(loss, has_aux=True), variables["params"], jnp.asarray(model.images, dtype))
    )
  return (value, (logits, model.timms(updates))), model.timms({"params": gradients})


def largest_error(found, expected, floor=0.0):
  """The largest over all tensors of error / largest expected value, and the tensor that has it."""
  assert set(found) == set(expected)
  least = floor * max(np.abs(a).max() for a in expected.values())
  error = {key: np.abs(found[key] - a).max() / max(np.abs(a).max(), least) for key, a in expected.items()}
  return max((value, key) for key, value in error.items())


def cases():
  for dtype in TOLERANCE:
    for name in KINDS:
      yield pytest.param(name, dtype, marks=[] if name in FAST and dtype == "float64" else [pytest.mark.slow])


@pytest.mark.parametrize("name, dtype", list(cases()))
def test_the_gradient_in_training_equals_the_references(name, dtype):
  (value, (logits, averages)), gradients = ours(name, dtype)
  (expected_value, (expected_logits, seen)), expected = reference(name)
  error, tensor = largest_error(gradients, expected, FLOOR)
  assert error < TOLERANCE[dtype], tensor
  assert abs(value - expected_value) < TOLERANCE[dtype]
  assert np.abs(logits - expected_logits).max() < TOLERANCE[dtype] * np.abs(expected_logits).max()

  # The running variance follows the mean squared deviation; PyTorch's is larger by n / (n - 1).
  state_dict, wanted = shrunken(name).state_dict, {}
  for norm, statistics in seen.items():
    for leaf, now in zip(("running_mean", "running_var"), statistics, strict=True):
      wanted[f"{norm}.{leaf}"] = 0.9 * state_dict[f"{norm}.{leaf}"] + 0.1 * now
  if wanted or averages:
    error, tensor = largest_error(averages, wanted)
    assert error < TOLERANCE[dtype], tensor


def without_effect(name):
  """Biases that a norm over the batch takes away again, and a shift of all logits of a softmax."""
  spec = shrunken(name).spec
  for key in shrunken(name).state_dict:
    before_batch_norm = not spec.conv_pre_norm_activation and key.endswith("pre_norm.bias")
    batch_norm_to_the_end = spec.attention_norm == "batch" and key.endswith(("attn.proj.bias", "mlp.fc2.bias"))
    if before_batch_norm or batch_norm_to_the_end or key.endswith("rel_pos.mlp.fc2.bias"):
      yield key


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in FAST else [pytest.mark.slow]) for n in KINDS])
def test_every_parameter_that_can_have_a_gradient_has_one(name):
  """Position MLPs and LayerScale too."""
  _, gradients = ours(name, "float64")
  sizes = {key: np.abs(a).max() for key, a in gradients.items()}
  assert {key for key, size in sizes.items() if size < 1e-12 * max(sizes.values())} == set(without_effect(name))
  spec = shrunken(name).spec
  scaled = bool(spec.attention_layer_scale or spec.conv_layer_scale)
  assert any(key.endswith(".gamma") for key in sizes) == scaled
  assert any("rel_pos.mlp.fc1" in key for key in sizes) == (spec.relative_position == "mlp")


def constant(x, *averages):
  """The batch's statistics as if they did not depend on the weights: the same loss, another gradient."""
  return jax.lax.stop_gradient(plain_coatnet.of_the_batch(x, *averages))


@pytest.mark.slow
@pytest.mark.parametrize("statistics", [constant, plain_coatnet.running])
def test_a_wrong_gradient_of_batch_norm_would_be_seen(statistics):
  name = "coatnet_0_224"
  (value, _), gradients = ours(name, "float64")
  (expected_value, _), expected = reference(name, statistics)
  assert (abs(value - expected_value) < 1e-12) == (statistics is constant)
  assert largest_error(gradients, expected, FLOOR)[0] > 1e-2


@pytest.mark.parametrize(
  "case_name",
  [
    pytest.param(path.stem, marks=[] if path.stem == "test_coatnet" else [pytest.mark.slow])
    for path in sorted(FOLDER.glob("*.json"))
  ],
)
def test_the_reference_equals_timm(case_name):
  case = load_case(case_name)
  facts = plain_coatnet.FACTS[case_name if case_name in plain_coatnet.FACTS else case.model]
  with jax.enable_x64(True):
    state_dict = {key: jnp.asarray(a, "float64") for key, a in case.state_dict.items()}
    forward = jax.jit(lambda s, x: plain_coatnet.forward(s, x, facts=facts)[:2])
    logits, maps = jax.device_get(forward(state_dict, jnp.asarray(case.images, "float64")))
  assert [m.shape for m in maps] == case.feature_shapes
  assert np.abs(logits - case.logits).max() < 1e-12 * np.abs(case.logits).max()
  for found, mean, corner in zip(maps, case.means, case.corners, strict=True):
    scale = np.abs(found).max()
    assert np.abs(found.mean((1, 2)) - mean).max() < 1e-12 * scale
    assert np.abs(found[:, 0, 0] - corner).max() < 1e-12 * scale
