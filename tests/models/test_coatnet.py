"""The model as a whole: every variant and option, shapes, names, errors."""

import dataclasses
import functools
import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convattn
from convattn import layers
from convattn.fields import settings_of
from convattn.models import Run, Spec, Stage, spec_for
from convattn.models.coatnet import CoAtNet

# Small, with every kind of stage: mixed runs, a change of width inside a stage, a stride other than 2.
SMALL = Spec(
  stages=(Stage((Run("C", 2, 8),)), Stage((Run("C", 1, 8), Run("T", 2, 12)), 3), Stage((Run("T", 1, 16),), 1)),
  stem_widths=(4, 6),
  head_size=4,
)


CHOICES = {field.name: field.metadata["choices"] for field in settings_of(Spec) if field.metadata["choices"]}


def images(height=25, width=19, channels=1, batch=2):
  return jnp.asarray(np.random.default_rng(0).standard_normal((batch, height, width, channels)), jnp.float32)


def initialise(model, x):
  return jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(x)


@pytest.fixture(scope="module")
def small():
  model = CoAtNet(SMALL, num_classes=5)
  return model, initialise(model, images())


def shallow(spec):
  """At most two blocks a run: every kind of transition is still there."""
  runs = lambda stage: tuple(dataclasses.replace(run, depth=min(run.depth, 2)) for run in stage.runs)  # noqa: E731
  return dataclasses.replace(spec, stages=tuple(dataclasses.replace(s, runs=runs(s)) for s in spec.stages))


FAST = ("coatnet_0", "coatnet_7", "coatnet_mini_8", "coatnet_0_rw_224", "coatnet_rmlp_nano_rw_224", "vit_rel")
"""The models that the fast tests trace; the longer ones trace all."""


@pytest.mark.parametrize(
  "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in convattn.list_models()]
)
def test_every_variant_traces_in_both_modes_as_a_rectangle_of_one_channel(name):
  """At its own size, square and of three channels, test_sizes counts it."""
  suffix = name.rsplit("_", 1)[-1].partition("x")[0]
  size = int(suffix) if suffix in ("8", "32") else 224
  shape = (2, size // 2 + 1, size, 1)
  spec = shallow(spec_for(name, stochastic_depth=0.1))
  model = CoAtNet(spec, num_classes=7, dtype=jnp.bfloat16)

  def everything(x):
    variables = model.init(jax.random.key(0), x, train=False)
    maps = model.apply(variables, x, train=False, method="features")
    train = model.apply(variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
    return maps, train[0]

  maps, logits = jax.eval_shape(everything, jax.ShapeDtypeStruct(shape, jnp.float32))
  assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)
  stride, strides, widths = spec.stem_stride, [spec.stem_stride], [spec.stem_widths[-1]]
  for stage in spec.stages:
    strides.append(stride := stride * stage.stride)
    widths.append(stage.runs[-1].width)
  wanted = [(2, -(-shape[1] // s), -(-shape[2] // s), c) for s, c in zip(strides, widths, strict=True)]
  assert [m.shape for m in maps] == wanted
  assert {m.dtype for m in maps} == {jnp.dtype(jnp.bfloat16)}


def test_small_presets_give_attention_four_by_four_pixels_or_more():
  for name in convattn.list_models("coatnet_mini_*"):
    spec, size = spec_for(name), int(name.rsplit("_", 1)[-1].partition("x")[0])
    stride = spec.stem_stride
    for stage in spec.stages:
      stride *= stage.stride
      assert "T" not in [run.block for run in stage.runs] or math.ceil(size / stride) >= 4  # strides round up


def test_a_layer_used_alone_is_the_papers_too():
  """A spec takes its defaults from the blocks; stem and classifier have the same."""
  for name in ("norm", "norm_epsilon", "activation"):
    assert getattr(layers.Stem, name) == getattr(layers.MBConv, name)
  for name in ("norm", "norm_epsilon"):
    assert getattr(layers.Classifier, name) == getattr(layers.TransformerBlock, name)


def test_the_layouts_are_what_their_names_say():
  for layout in ("cccc", "ccct", "cctt", "cttt"):
    assert "".join(stage.runs[0].block for stage in spec_for(f"layout_{layout}").stages) == layout.upper()
  assert spec_for("layout_cctt") == spec_for("coatnet_0")
  third = spec_for("coatnet_7").stages[2]
  assert [(run.block, run.depth, run.width) for run in third.runs] == [("C", 8, 1024), ("T", 42, 2048)]
  assert [stride for _, _, stride in third.blocks] == [2] + [1] * 49  # both runs at stride 16


def test_shapes_strides_and_attention_maps(small):
  model, variables = small
  maps = jax.eval_shape(lambda x: model.apply(variables, x, train=False, method="features"), images())
  assert [m.shape for m in maps] == [(2, 13, 10, 6), (2, 7, 5, 8), (2, 3, 2, 12), (2, 3, 2, 16)]
  _, seen = jax.jit(lambda x: model.apply(variables, x, train=False, mutable=["intermediates"]))(images())
  weights = jax.tree.leaves(seen)
  assert [w.shape for w in weights] == [(2, 3, 6, 6), (2, 3, 6, 6), (2, 4, 6, 6)]
  for w in weights:
    np.testing.assert_allclose(w.sum(-1), 1, atol=1e-5)


def test_an_image_does_not_see_its_batch(small):
  model, variables = small
  apply = jax.jit(lambda x: model.apply(variables, x, train=False))
  x = images()
  np.testing.assert_allclose(apply(x[::-1]), apply(x)[::-1], atol=1e-4)


def test_random_stream_is_needed_only_for_stochastic_depth(small):
  model, variables = small
  trace = lambda model: jax.eval_shape(  # noqa: E731
    lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"]), images()
  )
  trace(model)
  random = CoAtNet(dataclasses.replace(SMALL, stochastic_depth=0.5), num_classes=5)
  with pytest.raises(Exception, match='needs PRNG for "dropout"'):
    trace(random)


def test_the_shares_of_a_batch_are_one_batch_to_the_model(small):
  _, variables = small
  x = images(batch=4) + jnp.arange(4.0)[:, None, None, None]
  shared = CoAtNet(SMALL, num_classes=5, axis_name="share")
  step = lambda model: lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"])  # noqa: E731
  wanted, after = jax.jit(step(shared.clone(axis_name=None)))(x)
  out, afters = jax.jit(jax.vmap(step(shared), axis_name="share"))(x.reshape(2, 2, *x.shape[1:]))
  np.testing.assert_allclose(out.reshape(wanted.shape), wanted, atol=1e-3)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-3, atol=1e-4), afters, after)


def test_stochastic_depth_rises_linearly():
  model = CoAtNet(dataclasses.replace(SMALL, stochastic_depth=0.5), num_classes=5)

  rates = {}

  def spy(next_call, args, kwargs, context):
    if type(context.module).__name__ in ("MBConv", "TransformerBlock") and context.method_name == "__call__":
      rates["/".join(context.module.path)] = context.module.stochastic_depth
    return next_call(*args, **kwargs)

  with nn.intercept_methods(spy):
    jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images())
  np.testing.assert_allclose(list(rates.values()), np.linspace(0, 0.5, 6))


@pytest.mark.parametrize("remat", [pytest.param("block", marks=pytest.mark.slow), "dots"])
def test_rematerialisation_changes_neither_values_nor_names(remat):
  spec = Spec(
    (
      Stage(
        (Run("C", 1, 4), Run("T", 1, 8)),
      ),
    ),
    (4,),
    head_size=4,
    stochastic_depth=0.3,
  )
  plain, x = CoAtNet(spec, num_classes=3), images(5, 7)
  again = plain.clone(remat=remat)
  variables = initialise(plain, x)
  assert jax.tree.structure(jax.eval_shape(lambda x: initialise(again, x), x)) == jax.tree.structure(variables)

  def loss(model, params):
    rngs = {"dropout": jax.random.key(3)}
    out, _ = model.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"], rngs=rngs)
    return jnp.sum(jnp.sin(out))

  gradients = [jax.jit(jax.grad(functools.partial(loss, model)))(variables["params"]) for model in (plain, again)]
  chex.assert_trees_all_close(*gradients, atol=1e-4)
  programs = [str(jax.make_jaxpr(functools.partial(loss, model))(variables["params"])) for model in (plain, again)]
  assert ["remat" in program for program in programs] == [False, True]


@pytest.mark.slow  # the fast tests see that each setting of a model changes the program of a run
@pytest.mark.parametrize(
  "field, value",
  [(f, v) for f, values in CHOICES.items() for v in values if v != getattr(SMALL, f) and f != "table_resize"],
)
def test_every_choice_changes_the_program(small, field, value):
  """The blocks' equations are tested in tests/layers; here the field must reach them."""
  model, _ = small
  other = model.clone(spec=dataclasses.replace(SMALL, **{field: value}))
  same = model.clone(spec=dataclasses.replace(SMALL))
  traced = [
    str(jax.make_jaxpr(lambda x, m=m: m.init(jax.random.key(0), x, train=False))(images()))
    for m in (model, same, other)
  ]
  assert traced[0] == traced[1] != traced[2]


@pytest.mark.parametrize(
  "field, value", [("conv_layer_scale", 0.1), ("attention_layer_scale", 0.1), ("conv_bias", False)]
)
def test_a_field_reaches_convnext_and_transformer_blocks(field, value):
  """Their equations are in tests/layers; SMALL has no ConvNeXt block."""
  spec = Spec((Stage((Run("X", 1, 8),)), Stage((Run("T", 1, 8),))), (4,), conv_stride="pool", head_size=4)
  trees = []
  for each in (spec, dataclasses.replace(spec, **{field: value})):
    model = CoAtNet(each, num_classes=3)
    variables = jax.eval_shape(lambda x, m=model: m.init(jax.random.key(0), x, train=False), images(9, 7))
    trees.append({"/".join(part.key for part in path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)})
  changed = {
    "conv_layer_scale": {"params/stage_1/block_0/scale/scale"},
    "attention_layer_scale": {f"params/stage_2/block_0/{name}_scale/scale" for name in ("attention", "feed_forward")},
    "conv_bias": {f"params/stage_1/block_0/{name}/bias" for name in ("shortcut/project", "depthwise")},
  }[field]
  assert trees[0] ^ trees[1] == changed


@pytest.mark.parametrize("method", ["bilinear", "timm"])
def test_a_model_that_resizes_its_tables_takes_any_size(small, method):
  """With the variables of one that does not."""
  model, variables = small
  other, seen = model.clone(spec=dataclasses.replace(SMALL, table_resize=method)), set()

  def spy(next_call, args, kwargs, context):
    if isinstance(context.module, layers.BiasTable):
      seen.add(context.module.resize)
    return next_call(*args, **kwargs)

  with nn.intercept_methods(spy):
    logits = jax.eval_shape(lambda x: other.apply(variables, x, train=False), images(45, 45))
  assert (logits.shape, seen) == ((2, 5), {method})


def test_no_classes_gives_the_hidden_layer(small):
  model, variables = small
  assert convattn.create_model("coatnet_0", num_classes=0).num_classes == 0
  hidden = jax.eval_shape(lambda x: model.clone(num_classes=0).apply(variables, x, train=False), images())
  assert hidden.shape == (2, 16)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: convattn.create_model("coatnet_00"), "no model 'coatnet_00'; did you mean .*coatnet_0"),
    (
      lambda: convattn.create_model("coatnet_0", stochastic_dept=0.1),
      "no field 'stochastic_dept'; did you mean stochastic_depth",
    ),
    (
      lambda: convattn.create_model("coatnet_0", num_clases=3),
      r"^a model has no field 'num_clases'; did you mean num_classes\?$",
    ),
    (
      lambda: convattn.create_model("coatnet_0", xyzzy=1),
      r"^a model has no field 'xyzzy'; did you mean \w+(, \w+)*\?$",
    ),
    (lambda: convattn.create_model("coatnet_0", rematt="block"), r"no field 'rematt'; did you mean remat\?"),
    (lambda: convattn.create_model("coatnet_0", para_dtype="f"), "no field 'para_dtype'; did you mean param_dtype"),
    (lambda: convattn.create_model("coatnet_0", num_classes=-3), "num_classes is -3, but must be a whole number of at"),
    (lambda: convattn.create_model("coatnet_0", num_classes=2.5), "num_classes is 2.5, but must be a whole number"),
    (lambda: convattn.create_model("coatnet_0", num_classes=True), "num_classes is True, but must be a whole number"),
    (lambda: convattn.create_model("coatnet_0", num_classes="10"), "num_classes is '10', but must be a whole number"),
    (
      lambda: convattn.create_model("coatnet_0", pool="median"),
      "pool is 'median', but must be one of 'max', 'avg', 'max3x3'",
    ),
    (lambda: convattn.create_model("coatnet_0", head_size=33), "head_size is 33, but must divide the width 384"),
    (lambda: convattn.create_model("coatnet_0", stochastic_depth=1.0), "stochastic_depth is 1.0"),
    (lambda: Spec((Stage((Run("Y", 1, 8),)),), (4,)), "block is 'Y', but must be one of 'C', 'T', 'X', 'D'"),
    (
      lambda: Spec((Stage((Run("X", 1, 6),)),), (4,), conv_stride="pool"),
      "a ConvNeXt block's width is 6, but must be a multiple of its input's 4",
    ),
    (
      lambda: Spec((Stage((Run("X", 1, 8),)),), (4,)),
      "conv_stride is 'expand', but must be 'depthwise' or 'pool' in a model with ConvNeXt blocks",
    ),
    (
      lambda: convattn.create_model("coatnet_0", head_size=128, attention_width_from="input"),
      "head_size is 128, but must divide the width 192",
    ),
    (lambda: convattn.create_model("coatnet_0", relative_dropout=1.0), "relative_dropout is 1.0"),
    (lambda: convattn.create_model("coatnet_0", attention_layer_scale=-0.1), "attention_layer_scale is -0.1"),
    (lambda: convattn.create_model("coatnet_0", relative_hidden=0), "relative_hidden is 0, but must be at least 1"),
    (lambda: Spec((), (4,)), r"stages is \(\), but must have at least one element"),
    (lambda: Spec((Stage(()),), (4,)), "a stage's number of blocks is 0"),
    (lambda: Spec((Stage((Run("C", 1, 8),), 0),), (4,)), "a stage's stride is 0, but must be greater than 0"),
    (lambda: Spec((Stage((Run("C", 1, 8),)),), (0,)), "a stem width is 0, but must be greater than 0"),
    (lambda: convattn.create_model("coatnet_0", squeeze_ratio=-1), "squeeze_ratio is -1, but must be above 0"),
    (lambda: convattn.create_model("coatnet_0", head_size=0), "head_size is 0, but must be at least 1"),
  ],
)
def test_bad_names_and_values_give_one_line(call, message):
  with pytest.raises(ValueError, match=message) as caught:
    call()
  assert "\n" not in str(caught.value)


def test_wrong_images_are_named_before_the_first_layer(small):
  model, variables = small
  trace = functools.partial(jax.eval_shape, lambda x: model.apply(variables, x, train=False))
  for bad in (images()[0], images(channels=3)):
    with pytest.raises(AssertionError, match=r"argument 'x' has shape .*, but must be \[b, h, w, "):
      trace(bad)
  with pytest.raises(ValueError, match=r"stage_2/block_1/attention: .*grid of 4x4.* belongs to 3x2"):
    trace(images(45, 45))
  with pytest.raises(ValueError, match="remat is 'all'"):
    jax.eval_shape(lambda x: model.clone(remat="all").init(jax.random.key(0), x, train=False), images())
