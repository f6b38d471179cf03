import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import create_model
from convattn.training.config import Optimizer
from convattn.training.optimizer import decay_mask, learning_rate_schedule, make_optimizer


@pytest.mark.parametrize("warmup", [0, 7])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_schedule_reaches_its_peak_after_warmup_and_its_end_at_num_steps(schedule, warmup):
  settings = Optimizer(peak_learning_rate=0.3, end_learning_rate=0.02, warmup_steps=warmup, schedule=schedule)
  rates = np.array([learning_rate_schedule(settings, 31)(step) for step in range(32)])
  np.testing.assert_allclose(rates[:warmup], 0.3 * np.arange(warmup) / max(warmup, 1), rtol=1e-6)
  assert rates[warmup] == pytest.approx(0.3, rel=1e-6)
  assert rates[31] == pytest.approx(0.3 if schedule == "constant" else 0.02, rel=1e-5)
  share = (np.arange(warmup, 32) - warmup) / (31 - warmup)
  left = {"cosine": (1 + np.cos(np.pi * share)) / 2, "linear": 1 - share, "constant": np.ones_like(share)}[schedule]
  end = 0.3 if schedule == "constant" else 0.02
  np.testing.assert_allclose(rates[warmup:], end + (0.3 - end) * left, rtol=1e-5)


def _flat(tree):
  return {jax.tree_util.keystr(k, simple=True, separator="/"): v for k, v in jax.tree_util.tree_leaves_with_path(tree)}


def test_only_kernels_of_two_axes_or_more_decay():
  params = {
    "dense": {"kernel": jnp.ones((3, 5)), "bias": jnp.ones(5)},
    "depthwise": {"kernel": jnp.ones((3, 3, 1, 5))},
    "norm": {"scale": jnp.ones(5), "bias": jnp.ones(5)},
    "attention": {
      "bias_table": jnp.ones((2, 3, 5)),
      "query": {"kernel": jnp.ones((4, 2, 3)), "bias": jnp.ones((2, 3))},
      "bias_mlp": {"hidden": {"kernel": jnp.ones((2, 5)), "bias": jnp.ones(5)}},
    },
    "layer_scale": {"scale": jnp.ones(5)},
    "gate": {"kernel": jnp.ones(5)},
    "embedding": {"embedding": jnp.ones((5, 3))},
  }
  decayed = {name for name, decays in _flat(decay_mask(params)).items() if decays}
  assert decayed == {"dense/kernel", "depthwise/kernel", "attention/query/kernel"}


def _shapes(name):
  model = create_model(name, num_classes=5)
  images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)["params"]


@pytest.mark.parametrize("name", ["coatnet_0", "coatnext_nano_rw_224", "coatnet_bn_0_rw_224"])
def test_every_parameter_of_coatnet_is_either_a_decayed_kernel_or_a_known_exemption(name):
  mask = _flat(decay_mask(_shapes(name)))
  kinds = {(name.rsplit("/", 1)[-1], decays) for name, decays in mask.items()}
  assert kinds == {("kernel", True), ("bias", False), ("scale", False), ("bias_table", False)}


def test_the_network_that_makes_a_bias_table_does_not_decay():
  mask = _flat(decay_mask(_shapes("coatnet_rmlp_nano_rw_224")))
  inside = {name for name in mask if "/bias_mlp/" in name}
  assert {name.rsplit("/", 1)[-1] for name in inside} == {"kernel", "bias"}
  assert {name for name, decays in mask.items() if not decays and name.endswith("/kernel")} == {
    name for name in inside if name.endswith("/kernel")
  }


def _update(settings, gradients, params):
  optimizer = make_optimizer(settings, num_steps=10)
  return optimizer.update(gradients, optimizer.init(params), params)[0]


def test_without_gradient_only_the_decayed_move_and_by_rate_times_decay():
  params = {"dense": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.full(3, 2.0)}}
  settings = Optimizer(peak_learning_rate=0.1, weight_decay=0.3)
  updates = _update(settings, jax.tree.map(jnp.zeros_like, params), params)
  np.testing.assert_allclose(updates["dense"]["kernel"], -0.1 * 0.3 * 2.0, rtol=1e-6)
  np.testing.assert_array_equal(updates["dense"]["bias"], 0)


def test_first_update_is_the_clipped_gradient_over_itself_plus_epsilon():
  # Adam's first update, bias-corrected, is g / (|g| + eps); a large epsilon shows the size of g, hence the clipping.
  params, gradients = {"bias": jnp.zeros(2)}, {"bias": jnp.array([3.0, -4.0])}
  for clip_norm, scale in ((0.0, 1.0), (0.5, 0.1), (50.0, 1.0)):
    settings = Optimizer(peak_learning_rate=0.1, epsilon=2.0, clip_norm=clip_norm)
    clipped = np.array([3.0, -4.0]) * scale
    expected = -0.1 * clipped / (np.abs(clipped) + 2.0)
    np.testing.assert_allclose(_update(settings, gradients, params)["bias"], expected, rtol=1e-5)


def test_betas_are_those_of_the_settings():
  params = {"bias": jnp.zeros(1)}
  optimizer = make_optimizer(Optimizer(peak_learning_rate=0.1, beta1=0.6, beta2=0.7, schedule="constant"), 10)
  state, first, second = optimizer.init(params), 0.2, 0.5
  _, state = optimizer.update({"bias": jnp.array([first])}, state, params)
  updates, _ = optimizer.update({"bias": jnp.array([second])}, state, params)
  mean = (0.6 * 0.4 * first + 0.4 * second) / (1 - 0.6**2)
  square = (0.7 * 0.3 * first**2 + 0.3 * second**2) / (1 - 0.7**2)
  np.testing.assert_allclose(updates["bias"], -0.1 * mean / np.sqrt(square), rtol=1e-5)
