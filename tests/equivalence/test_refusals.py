"""Whatever is wrong is refused by our own code, in one line with the value given and the value wanted."""

import functools
import inspect
import linecache
import traceback

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_lax import draw

from convattn import equivalence
from convattn.layers import RelativeAttention

KERNEL, BIAS, IMAGES = draw(3, 2, 2, 4), draw(4), draw(1, 4, 6, 2)
PLACES = {"rows": draw(2, 3, 4, 5), "columns": draw(2, 3, 6, 7)}
BOUND = {"kernel": KERNEL, "alpha": 5.0, "max_abs": 1.0}
CONSTRUCTION = {"kernel": KERNEL, "bias": BIAS, "padding": "SAME", "mode": "table"}
THREE = dict.fromkeys(("query", "key", "value"), IMAGES)
FAMILY = THREE | {"table": draw(7, 11)}


def apply(x, kind="quadratic", **fields):
  """A layer that begins anew, traced only."""
  layer = {"quadratic": equivalence.QuadraticAttention, "table": equivalence.TableAttention}[kind]
  fields = {"num_heads": 2, "features": 4, "window": (3, 2)} | fields
  return jax.eval_shape(lambda: layer(**fields).init(jax.random.key(0), x))


# Good arguments of every public function, and of the layers.
GOOD = {
  "attend_pairs": (equivalence.attend_pairs, {"weights": draw(2, 3, 5), "x": draw(2, 5, 3)}),
  "attend_row_column": (equivalence.attend_row_column, PLACES | {"x": draw(1, 5, 7, 3)}),
  "attention_sum": (equivalence.attention_sum, THREE),
  "attention_to_conv": (equivalence.attention_to_conv, {}),  # see below
  "conv_to_attention": (equivalence.conv_to_attention, CONSTRUCTION | {"strides": 1, "dilation": 1, "groups": None}),
  "conv_to_attention, quadratic": (equivalence.conv_to_attention, CONSTRUCTION | {"mode": "quadratic", "alpha": 9.0}),
  "conv_to_attention, rank": (equivalence.conv_to_attention, CONSTRUCTION | {"mode": "rank"}),
  "error_bound": (equivalence.error_bound, BOUND),
  "fewer_heads_residual": (equivalence.fewer_heads_residual, {"kernel": KERNEL, "num_heads": 1}),
  "fewest_heads": (equivalence.fewest_heads, {"kernel": KERNEL}),
  "off_target_mass": (equivalence.off_target_mass, {"alpha": 5.0, "axes": 2}),
  "pair_weights": (equivalence.pair_weights, PLACES),
  "patch_conv_to_attention": (equivalence.patch_conv_to_attention, CONSTRUCTION | {"patch": 2, "alpha": None}),
  "patch_kernel": (equivalence.patch_kernel, {"kernel": KERNEL, "patch": 2}),
  "relative_sum_after": (equivalence.relative_sum_after, FAMILY),
  "relative_sum_before": (equivalence.relative_sum_before, FAMILY),
  "rounding_floor": (equivalence.rounding_floor, {"kernel": KERNEL, "max_abs": 1.0, "dtype": np.float32}),
  "static_sum": (equivalence.static_sum, {"x": IMAGES, "table": draw(2, 7, 11)}),
  "tap_rank": (equivalence.tap_rank, {"kernel": KERNEL}),
  "to_patches": (equivalence.to_patches, {"images": IMAGES, "patch": 2}),
  "to_pixels": (equivalence.to_pixels, {"patches": draw(1, 2, 3, 8), "patch": 2}),
  "QuadraticAttention": (
    apply,
    {"x": IMAGES, "num_heads": 2, "features": 4, "window": (3, 2), "padding": "SAME", "strides": 1, "groups": 1},
  ),
  "TableAttention": (functools.partial(apply, kind="table"), {"x": IMAGES, "dilation": 1, "param_dtype": "float32"}),
}
CONSTANTS = {"MODES", "PADDINGS", "PositionAttention"}
WRONG = [
  *(None, "3", b"3", "", 2.0, 1.5, -1, 0, 7, True, 10**400, float("nan"), float("inf"), 1j),
  *([], {}, (), object(), [[1, 2], [3]], (1, 2, 3), (2.0, 1.0), ("EDGE", 3), np.ones(2), np.ones((1, 2, 3, 4, 5))),
  *(np.array(2), np.array([1, 2]), np.float32(2), np.array(["a", "b"]), np.ones((3, 2, 2, 4), complex)),
  *(jnp.zeros((0, 3)), jnp.full((3, 2, 2, 4), jnp.nan), jnp.ones((1, 4, 5, 2)), jnp.ones((3, 3, 3), jnp.int32)),
  *(np.full((3, 2, 2, 4), np.inf), np.zeros((1, 0, 6, 2)), np.zeros((1, 4, 6, 0)), jax.random.key(0), jnp.ones),
]


def refused(call):
  """Whether `call` raises, and then as it should: by a `raise` of ours, on one line, with what is wanted."""
  try:
    call()
  except Exception as error:
    caught = error
  else:
    return False
  last = list(traceback.walk_tb(caught.__traceback__))[-1]
  where, message = last[0].f_code.co_filename, str(caught)
  line = linecache.getline(where, last[1]).strip()
  assert isinstance(caught, ValueError | TypeError | AssertionError), repr(caught)
  assert "/chex/" in where or ("/convattn/" in where and line.startswith("raise ")), f"{where}: {caught!r}"
  assert " but " in message and len(message) < 500, message
  assert "\n" not in message or "/chex/" in where, message
  return True


@pytest.fixture(autouse=True)
def _whole_tracebacks():
  before = jax.config.jax_traceback_filtering
  jax.config.update("jax_traceback_filtering", "off")
  yield
  jax.config.update("jax_traceback_filtering", before)


def test_every_public_name_is_listed():
  assert set(equivalence.__all__) - CONSTANTS == {name.split(",")[0] for name in GOOD}
  for name, (function, arguments) in GOOD.items():
    assert set(arguments) <= set(inspect.signature(function).parameters) or "Attention" in name


@pytest.mark.parametrize("name", [name for name in GOOD if name != "attention_to_conv"])
def test_wrong_arguments_are_refused_by_ours(name):
  function, arguments = GOOD[name]
  assert not refused(lambda: function(**arguments))
  for argument in arguments:
    count = sum(refused(functools.partial(function, **arguments | {argument: wrong})) for wrong in WRONG)
    assert count > len(WRONG) / 3, argument


def relative(**fields):
  layer = RelativeAttention(num_heads=2, **fields)
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  shapes = jax.eval_shape(layer.init, keys, draw(1, 2, 3, 4))["params"]
  params = jax.tree.map(lambda each: draw(*each.shape), shapes)
  params["query"] = jax.tree.map(np.zeros_like, params["query"])
  return layer, params


def test_parameters_without_a_convolution_are_refused_by_ours():
  made = [equivalence.conv_to_attention(KERNEL, BIAS, padding="SAME", mode="table")]
  made += [equivalence.conv_to_attention(KERNEL, BIAS, padding="SAME", mode="quadratic", alpha=4.0)]
  made = [(layer, variables["params"]) for layer, variables in made] + [relative()]
  back = equivalence.attention_to_conv
  for layer, params in made:
    assert not refused(lambda: back(layer, {"params": params}))  # noqa: B023
    for wrong in [None, 3, "params", params, {"params": 3}, {"params": None}]:
      assert refused(lambda: back(layer, wrong))  # noqa: B023
    for name in params:
      for wrong in [None, "3", 1.0, [1.0], {}, np.ones((2, 2)), np.ones((1, 2, 3, 4)), np.array(["a"])]:
        assert refused(lambda: back(layer, {"params": params | {name: wrong}})), (name, wrong)  # noqa: B023
      nowhere = jax.tree.map(lambda each: np.full(each.shape, np.nan), params[name])
      assert refused(lambda: back(layer, {"params": params | {name: nowhere}})), name  # noqa: B023
      assert refused(lambda: back(layer, {"params": {n: p for n, p in params.items() if n != name}}))  # noqa: B023
    assert refused(lambda: jax.jit(lambda v: back(layer, v)[0])({"params": params}))  # noqa: B023
    for grid in [3, "34", (3.0, 4.0), (0, 4), (3, 4, 5), (9, 9), np.ones(2)]:
      assert refused(lambda: back(layer, {"params": params}, grid=grid)), grid  # noqa: B023
  for layer in [None, 3, nn.Dense(3), equivalence.TableAttention, equivalence.PositionAttention(1, 1, (1,))]:
    assert refused(lambda: back(layer, {"params": {}}))  # noqa: B023


def test_a_layer_with_dropout_goes_back_as_it_is_without():
  layer, params = relative(position="mlp", position_hidden=5, position_dropout=0.5)
  back = equivalence.attention_to_conv(layer, {"params": params}, grid=np.array([2, 3]))
  again = equivalence.attention_to_conv(layer.clone(position_dropout=0.0), {"params": params}, grid=(2, 3))
  np.testing.assert_array_equal(back[0], again[0])
  assert 0 < back[2] == again[2] < 1


def test_traced_kernels_have_no_bound_and_no_rank():
  for function in (equivalence.tap_rank, equivalence.fewest_heads, lambda k: equivalence.error_bound(k, 2.0, 1.0)):
    with pytest.raises(ValueError, match="kernel is traced, but .*: call it outside jit"):
      jax.jit(function)(KERNEL)
  with pytest.raises(ValueError, match=r"alpha is traced, but mode 'quadratic' needs a positive number"):
    jax.jit(lambda a: equivalence.conv_to_attention(KERNEL, padding="SAME", mode="quadratic", alpha=a)[1])(2.0)


@pytest.mark.parametrize(
  "arguments, message",
  [
    ({"groups": 2.0}, r"groups is 2.0, but must divide the 4 output channels of the kernel \(3, 2, 2, 4\): give a"),
    ({"groups": True}, "groups is True, but must divide"),
    (
      {"mode": "quadratic", "alpha": np.ones(3)},
      r"alpha is an array float64\[3\], but must be positive and finite, one",
    ),
    ({"mode": "quadratic", "alpha": "9"}, "alpha is '9', but must be positive and finite, one number that float32 can"),
    ({"mode": "quadratic", "alpha": 1e39}, r"alpha is 1e\+39, but must be .* number that float32 can hold"),
    (
      {"mode": "rank", "kernel": KERNEL.at[1, 0, 1, 2].set(np.nan)},
      r"kernel has the value nan at \(1, 0, 1, 2\), but mode",
    ),
    ({"strides": np.array([1.5, 1])}, r"strides is an array float64\[2\], but must be a positive integer or one for"),
    ({"kernel": None}, "kernel is None, but must be an array of real numbers"),
    ({"bias": "abcd"}, "bias is 'abcd', but must be an array of real numbers"),
  ],
)
def test_messages_name_the_value_and_the_wish(arguments, message):
  with pytest.raises((ValueError, TypeError), match=message):
    equivalence.conv_to_attention(**CONSTRUCTION | arguments)


def test_whole_numbers_come_in_any_shape():
  for two in (2, np.int32(2), np.array(2), jnp.array(2), [2, 2], np.array([2, 2]), (np.int64(2), 2)):
    layer, _ = equivalence.conv_to_attention(**CONSTRUCTION | {"strides": two, "dilation": two, "groups": np.int8(2)})
    assert (layer.strides, layer.dilation, layer.groups) == ((2, 2), (2, 2), 2)
    assert hash(layer) == hash(layer.clone())
  for amounts in ([[1, 0], [0, 1]], np.array([[1, 0], [0, 1]]), ((np.int32(1), 0), [0, 1])):
    layer, _ = equivalence.conv_to_attention(**CONSTRUCTION | {"padding": amounts})
    assert layer.padding == ("SAME", ((1, 0), (0, 1)))
    layer, _ = equivalence.conv_to_attention(**CONSTRUCTION | {"padding": ["EDGE", amounts]})
    assert layer.padding == ("EDGE", ((1, 0), (0, 1)))
  assert equivalence.to_patches(IMAGES, np.int64(2)).shape == (1, 2, 3, 8)
  for number in (5, np.float32(5), np.array(5.0), jnp.float32(5), jnp.bfloat16(5)):
    assert equivalence.error_bound(KERNEL, number, number) == equivalence.error_bound(KERNEL, 5.0, 5.0)
    made = equivalence.conv_to_attention(**CONSTRUCTION | {"mode": "quadratic", "alpha": number})
    np.testing.assert_array_equal(made[1]["params"]["alpha"], 5)


@pytest.mark.parametrize(
  ("dtype", "taps", "size"),
  [("float16", 3, 12e3), ("float16", 31, 120.0), ("bfloat16", 3, 2e38), ("float32", 3, 2e38), ("float16", 5, 6e4)],
)
def test_parameters_beyond_their_dtype_are_refused(dtype, taps, size):
  """The heads of "rank" need larger numbers than the kernel; in the other modes a finite kernel has finite ones."""
  drawn = np.random.default_rng(0).uniform(-size, size, (taps, taps, 1, 1))
  kernel = jnp.asarray(drawn.astype(jnp.dtype(dtype)))
  with pytest.raises(ValueError, match=f"^value would hold .*, but {dtype} has no number beyond .*mode 'table'.*$"):
    equivalence.conv_to_attention(kernel, padding="SAME", mode="rank")
  for mode in ("table", "quadratic"):
    alpha = 9.0 if mode == "quadratic" else None
    _, variables = equivalence.conv_to_attention(kernel, padding="SAME", mode=mode, alpha=alpha)
    assert np.isfinite(np.asarray(variables["params"]["value"], np.float64)).all()


def test_a_large_kernel_that_fits_is_the_convolution():
  kernel = jnp.asarray(np.random.default_rng(0).uniform(-4000, 4000, (3, 3, 1, 1)), jnp.float16)
  x = jnp.asarray(np.random.default_rng(1).standard_normal((1, 6, 6, 1)) * 0.05, jnp.float16)
  layer, variables = equivalence.conv_to_attention(kernel, padding="SAME", mode="rank")
  wanted = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
  np.testing.assert_allclose(layer.apply(variables, x), wanted, atol=0.02 * float(jnp.abs(wanted).max()))


def test_a_bias_and_a_kernel_beyond_their_dtype_are_refused():
  kernel = jnp.ones((3, 1, 2), jnp.float16)
  with pytest.raises(ValueError, match=r"^bias would hold 1e\+06, but float16 has no number beyond .*float32.$"):
    equivalence.conv_to_attention(kernel, jnp.asarray([1e6, 0.0]), padding="SAME", mode="table")
  # Two heads, each on one tap alone, would be a kernel beyond it where they are on the same.
  layer, variables = equivalence.conv_to_attention(kernel, padding="SAME", mode="table")
  table = jnp.broadcast_to(variables["params"]["table"][:1], variables["params"]["table"].shape)
  value = jnp.full_like(variables["params"]["value"], 50000)
  with pytest.raises(ValueError, match=r"^kernel would hold 1.5e\+05, but float16 .*float32.$"):
    equivalence.attention_to_conv(layer, {"params": {"value": value, "table": table}})
