"""The forward pass of page/model.js computes what the model computes in JAX, whatever is switched off."""

import contextlib
import dataclasses
import json

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.analysis import Grid, attention_maps
from convattn.errors import UserError
from convattn.fields import settings_of
from convattn.layers import attention as attention_layer
from convattn.layers.activations import ACTIVATIONS
from convattn.models import Spec, create_model
from convattn.ops.attention import attend
from convattn.viz.page_model import LARGEST, describe, in_page_precision
from tests.viz.served import served
from tests.viz.small_models import SPECS, disturbed, preprocessing_for, small_model

RUN = """async ([description, runs]) => {
  const [{ createModel }, { floats }] = await Promise.all([import("./model.js"), import("./unpack.js")]);
  const model = createModel(JSON.parse(description), floats);
  const listed = (value) => value && (ArrayBuffer.isView(value) ? Array.from(value) : value);
  return runs.map(([pixels, switches]) => {
    const { logits, features, layers } = model.forward(Float32Array.from(pixels), switches);
    const maps = Object.entries(layers).map(([name, layer]) => [
      name, Object.fromEntries(Object.entries(layer).map(([part, value]) => [part, listed(value)])),
    ]);
    const contributions = Array.from(logits, (_, label) => {
      const { values, bias, exact } = model.classMap(features, label);
      return { values: listed(values), bias, exact };
    });
    return { logits: listed(logits), layers: Object.fromEntries(maps), contributions };
  });
}"""


@pytest.fixture(scope="module")
def in_browser(browser):
  """(PageModel, images [b, h, w, c], switches of each) -> what the page computes."""
  with served(browser) as tab:

    def run(described, images, switches=None):
      switches = switches or [{}] * len(images)
      runs = [[np.ravel(image).tolist(), each] for image, each in zip(images, switches, strict=True)]
      return tab.evaluate(RUN, [json.dumps(described.as_json), runs])

    yield run


def images_for(shape, count=1, seed=1):
  return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def in_jax(model, variables, images):
  """Logits [b, classes], and the weights of each attention layer, [b, heads, q, k], by its path."""
  apply = jax.jit(lambda variables, x: model.apply(variables, x, train=False, mutable=["intermediates"]))
  logits, sown = apply(variables, images)
  flat = flax.traverse_util.flatten_dict(sown.get("intermediates", {}), sep="/")
  return np.asarray(logits), {path.rpartition("/")[0]: np.asarray(weights) for path, (weights,) in flat.items()}


def assert_equal_run(found, logits, weights, row, rtol=1e-4):
  np.testing.assert_allclose(found["logits"], logits[row], rtol=rtol, atol=rtol * np.abs(logits).max())
  assert set(found["layers"]) == set(weights)
  for name, layer in found["layers"].items():
    np.testing.assert_allclose(
      np.reshape(layer["probabilities"], weights[name][row].shape), weights[name][row], atol=rtol / 10
    )


def with_zeros(variables, path, at):
  """A copy in which a part of one parameter is zero."""
  changed = jax.tree.map(np.array, variables)
  leaf = changed["params"]
  for name in path.split("/")[:-1]:
    leaf = leaf[name]
  leaf[path.split("/")[-1]][at] = 0
  return changed


@contextlib.contextmanager
def attending_with(monkeypatch, masks):
  """The attention layers, one after another, see the keys that their mask [k] allows."""
  left = iter(masks)

  def masked(query, key, value, **options):
    return attend(query, key, value, mask=jnp.asarray(next(left))[None, None, None], **options)

  with monkeypatch.context() as patch:
    patch.setattr(attention_layer, "attend", masked)
    yield


def layers_of(description, kind):
  def walk(steps):
    for step in steps:
      if step["kind"] == kind:
        yield step
      for part in ("shortcut", "branch"):
        yield from walk(step.get(part, []))

  return list(walk(description["steps"]))


@pytest.mark.parametrize("name", SPECS)
def test_logits_and_weights_are_those_of_jax(name, in_browser):
  model, variables, shape = small_model(name)
  images = images_for(shape, 2)
  described = describe(model, variables, shape, preprocessing_for(shape))
  runs = in_browser(described, images)
  logits, weights = in_jax(model, in_page_precision(variables), images)
  for row, found in enumerate(runs):
    assert_equal_run(found, logits, weights, row)
  assert np.abs(logits[0] - logits[1]).max() > 1e-3  # the image matters
  exact, _ = in_jax(model, variables, images)
  assert np.abs(exact - logits).max() < 1e-3


def test_the_small_models_have_every_choice_of_every_setting():
  specs = [spec for spec, *_ in SPECS.values()]
  for field in settings_of(Spec):
    tried = {getattr(spec, field.name) for spec in specs}
    if field.name == "table_resize":  # for variables of another grid, below
      continue
    if field.metadata["choices"]:
      assert tried == set(field.metadata["choices"]), field.name
    else:
      assert len(tried) > 1, field.name
  assert {kind for spec in specs for kind, *_ in spec.blocks} == {"C", "T", "X", "D"}


def test_activations_are_those_of_jax_to_the_last_digits(browser):
  x = np.linspace(-6, 6, 241, dtype=np.float32)
  run = """async ([names, x]) => {
    const { activation } = await import("./model_ops.js");
    const image = { data: Float32Array.from(x), height: 1, width: 1, channels: x.length };
    return names.map((name) => Array.from(activation(image, { function: name }).data));
  }"""
  with served(browser) as tab:
    found = tab.evaluate(run, [[*ACTIVATIONS, "tanh"], x.tolist()])
  for values, function in zip(found, [*ACTIVATIONS.values(), np.tanh], strict=True):
    np.testing.assert_allclose(values, function(x), atol=2e-6)


@pytest.mark.parametrize("method", ["bilinear", "timm"])
def test_a_table_of_another_grid_is_fitted_to_the_image(method, in_browser):
  made, variables, _ = small_model("defaults")
  model = made.clone(spec=dataclasses.replace(made.spec, table_resize=method))
  shape = (17, 8, 3)
  images = images_for(shape)
  (found,) = in_browser(describe(model, variables, shape, preprocessing_for(shape)), images)
  assert_equal_run(found, *in_jax(model, in_page_precision(variables), images), 0)


@pytest.mark.slow
@pytest.mark.parametrize("name, shape", [("coatnet_mini_8", (8, 8, 1)), ("coatnet_mini_28", (28, 28, 1))])
def test_models_for_small_images_are_those_of_jax(name, shape, in_browser):
  model = create_model(name, 10)
  images = images_for(shape)
  variables = disturbed(jax.jit(lambda key, x: model.init(key, x, train=False))(jax.random.key(0), images), 0)
  (found,) = in_browser(describe(model, variables, shape, preprocessing_for(shape)), images)
  logits, weights = in_jax(model, variables, images)
  assert_equal_run(found, logits, weights, 0, rtol=1e-3)


@pytest.mark.parametrize("name", ["defaults", "other_mbconv", "pooled", "convnext"])
def test_every_mode_is_that_of_the_analysis(name, in_browser):
  model, variables, shape = small_model(name)
  images = images_for(shape)
  (found,) = in_browser(describe(model, variables, shape, preprocessing_for(shape)), images)
  for expected in attention_maps(model, in_page_precision(variables), images):
    layer = found["layers"][expected.layer]
    size = expected.probabilities.shape[1:]
    np.testing.assert_allclose(np.reshape(layer["content"], size), expected.content[0], rtol=1e-4, atol=1e-5)
    norms = np.reshape(layer["valueNorms"], (size[0], 1, size[2]))
    weighted = np.reshape(layer["probabilities"], size) * norms
    np.testing.assert_allclose(weighted, expected.norm_weighted[0], rtol=1e-4, atol=1e-5)
    assert (layer["position"] is None) == (expected.position is None)
    if expected.position is not None:
      np.testing.assert_allclose(np.reshape(layer["position"], size), expected.position[0], rtol=1e-4, atol=1e-5)
      assert expected.position.std() > 0.1


HEADS = [("defaults", "stage_2/block_0/attention", 1), ("pooled", "stage_3/block_0/attention", 0)]


@pytest.mark.parametrize("name, layer, head", HEADS)
def test_a_head_switched_off_is_one_whose_rows_of_the_output_matrix_are_zero(name, layer, head, in_browser):
  model, variables, shape = small_model(name)
  images = images_for(shape)
  described = describe(model, variables, shape, preprocessing_for(shape))
  (step,) = [each for each in layers_of(described.description, "attention") if each["name"] == layer]
  scales = [0 if i == head else 1 for i in range(step["heads"])]
  (found,) = in_browser(described, images, [{"heads": {layer: scales}}])
  off = with_zeros(in_page_precision(variables), f"{layer}/out/kernel", head)
  logits, weights = in_jax(model, off, images)
  assert_equal_run(found, logits, weights, 0)
  norms = np.reshape(found["layers"][layer]["valueNorms"], (step["heads"], -1))
  assert (norms[head] == 0).all() and (np.delete(norms, head, 0) > 0).all()
  assert np.abs(in_jax(model, variables, images)[0] - logits).max() > 1e-2


KERNELS = [
  ("defaults", "stem/conv_2", np.s_[..., 3], 5),
  ("defaults", "stage_1/block_1/depthwise", np.s_[..., 7], 24),
  ("convnext", "stage_1/block_0/depthwise", np.s_[..., 2], 8),
  ("causal", "stage_1/block_0/stack/conv_2", np.s_[..., 4], 12),
]


@pytest.mark.parametrize("name, layer, at, count", KERNELS)
def test_a_kernel_switched_off_is_a_kernel_of_zeros(name, layer, at, count, in_browser):
  model, variables, shape = small_model(name)
  images = images_for(shape)
  scales = np.ones(count)
  scales[at] = 0
  described = describe(model, variables, shape, preprocessing_for(shape))
  (found,) = in_browser(described, images, [{"kernels": {layer: scales.tolist()}}])
  logits, weights = in_jax(model, with_zeros(in_page_precision(variables), f"{layer}/kernel", at), images)
  assert_equal_run(found, logits, weights, 0)
  assert np.abs(in_jax(model, variables, images)[0] - logits).max() > 1e-3


@pytest.mark.parametrize("name", ["defaults", "pooled"])
def test_no_query_sees_a_cell_of_which_every_pixel_is_hidden(name, in_browser, monkeypatch):
  model, variables, shape = small_model(name)
  images = images_for(shape)
  described = describe(model, variables, shape, preprocessing_for(shape))
  hidden = np.zeros(shape[:2], bool)
  hidden[:9, 4:] = True
  masks = []
  for step in layers_of(described.description, "attention"):
    boxes = Grid(*step["grid"], stride=step["stride"], image=shape[:2]).boxes().astype(int)
    masks.append(np.array([not hidden[top:bottom, left:right].all() for top, left, bottom, right in boxes]))
    assert 0 < masks[-1].sum() < len(masks[-1])
  one_pixel = np.zeros(shape[:2], bool)
  one_pixel[0, 0] = True
  switches = [{"hidden": each.astype(int).ravel().tolist()} for each in (hidden, one_pixel, np.ones(shape[:2]))]
  some, none, everything = in_browser(described, np.repeat(images, 3, 0), switches)
  with attending_with(monkeypatch, masks):
    logits, weights = in_jax(model, in_page_precision(variables), images)
  assert_equal_run(some, logits, weights, 0)
  plain, weights = in_jax(model, in_page_precision(variables), images)
  assert np.abs(plain - logits).max() > 1e-3
  assert_equal_run(none, plain, weights, 0)  # no cell is a single pixel
  assert all(not np.any(layer["probabilities"]) for layer in everything["layers"].values())
  with attending_with(monkeypatch, [np.zeros_like(mask) for mask in masks]):
    assert_equal_run(everything, *in_jax(model, in_page_precision(variables), images), 0)


def test_pixels_that_are_painted_change_the_logits_as_in_jax(in_browser):
  model, variables, shape = small_model("defaults")
  plain, painted = np.repeat(images_for(shape), 2, 0)
  painted[2:5, 3:9] = 0
  images = np.stack([plain, painted])
  runs = in_browser(describe(model, variables, shape, preprocessing_for(shape)), images)
  logits, weights = in_jax(model, in_page_precision(variables), images)
  for row, found in enumerate(runs):
    assert_equal_run(found, logits, weights, row)
  assert np.abs(logits[0] - logits[1]).max() > 1e-2


@pytest.mark.parametrize("name", ["other_mbconv", "pooled", "convnext_pooled", "defaults", "without_classes"])
def test_contributions_of_the_cells_and_the_bias_sum_to_the_logit(name, in_browser):
  model, variables, shape = small_model(name)
  described = describe(model, variables, shape, preprocessing_for(shape))
  (found,) = in_browser(described, images_for(shape))
  cells = np.prod(described.description["classifier"]["grid"])
  for logit, part in zip(found["logits"], found["contributions"], strict=True):
    assert len(part["values"]) == cells
    np.testing.assert_allclose(np.sum(part["values"]) + part["bias"], logit, rtol=1e-4, atol=1e-4)
    assert part["exact"] == (model.spec.head != "tanh")


@pytest.mark.parametrize("name", ["other_mbconv", "convnext_pooled"])
def test_a_cell_contributes_its_own_share_where_each_is_normalised_by_itself(name, in_browser):
  """norm_first: the mean over cells of what the dense layer makes of each."""
  model, variables, shape = small_model(name)
  variables = in_page_precision(variables)
  image = images_for(shape)
  described = describe(model, variables, shape, preprocessing_for(shape))
  (found,) = in_browser(described, image)
  features = model.apply(variables, image, train=False, method="features")[-1]
  classifier = model.bind(variables).classifier
  alone = [
    classifier(features[:, row : row + 1, column : column + 1], train=False)[0]
    for row, column in np.ndindex(features.shape[1:3])
  ]
  for label, part in enumerate(found["contributions"]):
    expected = (np.array(alone)[:, label] - part["bias"]) / len(alone)
    np.testing.assert_allclose(part["values"], expected, rtol=1e-3, atol=1e-4)


def test_of_what_a_page_cannot_compute_it_has_a_sentence():
  model, variables, shape = small_model("defaults")
  wide = {"params": {"kernel": np.zeros((1, LARGEST + 1))}}
  described = describe(model, wide, shape, preprocessing_for(shape))
  assert described.description == {} and described.megabytes == 0
  assert described.as_json == {"lacks": described.lacks}
  assert described.lacks.startswith(
    "The model has 2,000,001 parameters, and a page computes models of at most 2,000,000, "
  )
  other = describe(object(), variables, shape, preprocessing_for(shape))
  assert other.lacks.startswith("The model is a object, and a page computes CoAtNets alone")
  one = describe(model, variables, (11, 14, 2), preprocessing_for((11, 14, 2)))
  assert one.lacks.startswith("The model takes images of 2 channels, and a page draws those of 1 or 3")
  halved = describe(model.clone(dtype=jnp.bfloat16), variables, shape, preprocessing_for(shape))
  assert "bfloat16" in halved.description["notes"][0]


def test_variables_that_do_not_fit_are_refused_by_name():
  model, variables, shape = small_model("defaults")
  preprocessing = preprocessing_for(shape)
  flat = flax.traverse_util.flatten_dict(variables["params"], sep="/")
  without = {path: value for path, value in flat.items() if path != "stage_2/block_0/attention/out/kernel"}
  for changed, message in [
    (without, "the variables lack stage_2/block_0/attention/out/kernel."),
    (flat | {"stem/more": np.zeros(2)}, "the variables have stem/more, which the model has not."),
    (flat | {"stem/conv_1/kernel": flat["stem/conv_1/kernel"] * np.nan}, "stem/conv_1/kernel has numbers that are not"),
  ]:
    params = flax.traverse_util.unflatten_dict(changed, sep="/")
    with pytest.raises(ValueError, match=message):
      describe(model, variables | {"params": params}, shape, preprocessing)
  with pytest.raises(UserError, match=r"preprocessing makes images of \(11, 14, 3\), but the model takes \(8, 14, 3\)"):
    describe(model, variables, (8, 14, 3), preprocessing)


def test_megabytes_are_those_of_the_arrays():
  model, variables, shape = small_model("defaults")
  described = describe(model, variables, shape, preprocessing_for(shape))
  text = json.dumps(described.as_json)
  arrays = sum(len(piece.split('"')[0]) for piece in text.split('"data": "')[1:])
  assert described.megabytes == arrays / 1e6 > 0.01
