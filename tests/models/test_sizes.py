"""Every variant by its exact size, at no cost."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

import convattn
from convattn.models import Run, Stage, spec_for

# Dai et al. 2021, Tables 3, 11, 12 with unbiased stem convolutions: exact counts at 224 px and 1000 classes.
# coatnet_0 to coatnet_4 equal timm's to the unit, coatnet_5 equals timm's with a head size of 64. The rows of timm's
# names are timm's own counts (test_coatnet's at 224 px).
EXPECTED = {
  "coatnet_0": 25_036_820,
  "coatnet_1": 42_225_776,
  "coatnet_2": 74_684_744,
  "coatnet_3": 166_966_264,
  "coatnet_4": 275_425_288,
  "coatnet_5": 687_052_952,
  "coatnet_6": 1_348_435_040,
  "coatnet_7": 2_441_972_728,
  "coatnet_0_224": 25_036_820,
  "coatnet_1_224": 42_225_776,
  "coatnet_2_224": 74_684_744,
  "coatnet_3_224": 166_966_264,
  "coatnet_4_224": 275_425_288,
  "coatnet_5_224": 687_472_008,
  "coatnet_pico_rw_224": 10_851_364,
  "coatnet_nano_rw_224": 15_141_244,
  "coatnet_0_rw_224": 27_435_562,
  "coatnet_1_rw_224": 41_721_502,
  "coatnet_2_rw_224": 73_868_400,
  "coatnet_3_rw_224": 165_173_428,
  "coatnet_bn_0_rw_224": 27_435_562,
  "coatnet_rmlp_nano_rw_224": 15_145_116,
  "coatnet_rmlp_0_rw_224": 27_446_074,
  "coatnet_rmlp_1_rw_224": 41_691_982,
  "coatnet_rmlp_1_rw2_224": 41_724_622,
  "coatnet_rmlp_2_rw_224": 73_881_264,
  "coatnet_rmlp_2_rw_384": 73_881_264,
  "coatnet_rmlp_3_rw_224": 165_152_788,
  "coatnet_nano_cc_224": 13_757_328,
  "coatnext_nano_rw_224": 14_701_244,
  "test_coatnet": 577_584,
  "layout_cccc": 20_942_312,
  "layout_ccct": 23_533_592,
  "layout_cctt": 25_036_820,
  "layout_cttt": 25_304_246,
  "vit_rel": 22_227_064,
  "coatnet_mini_8": 720_746,
  "coatnet_mini_8x8": 3_561_396,
  "coatnet_mini_28": 994_380,
  "coatnet_mini_32": 9_944_464,
  "patch_cc": 58_872,
  "patch_ct": 84_082,
  "patch_tt": 109_292,
  "row_cccc": 91_752,
  "row_cctt": 291_804,
  "row_tttt": 491_856,
  "row_d": 74_824,
  "row_dt": 470_506,
  "layout_cccc_28": 563_056,
  "layout_ccct_28": 618_200,
  "layout_cctt_28": 798_644,
  "layout_cttt_28": 1_102_562,
  "vit_rel_28": 854_176,
}


def shapes(model, size=224, width=None, channels=3):
  images = jax.ShapeDtypeStruct((1, size, width or size, channels), jnp.float32)
  return jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=False), images)


def count(variables):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def test_every_variant_has_an_expected_size():
  assert set(convattn.list_models()) == set(EXPECTED)


def shortened(spec):
  """(the spec with at most two blocks a run, how often each of its blocks stands in the whole one, by path).

  All blocks of a run but the first are alike (test_recorded.py compares every model whole).
  """
  times, stages = {}, []
  for i, stage in enumerate(spec.stages):
    kept = [dataclasses.replace(run, depth=min(run.depth, 2)) for run in stage.runs]
    stages.append(dataclasses.replace(stage, runs=tuple(kept)))
    counts = [count for run in stage.runs for count in (1, run.depth - 1)[: run.depth]]
    times |= {(f"stage_{i + 1}", f"block_{j}"): count for j, count in enumerate(counts)}
  return dataclasses.replace(spec, stages=tuple(stages)), times


@pytest.mark.parametrize("name", EXPECTED)
def test_parameters(name):
  spec, times = shortened(spec_for(name))
  leaves = jax.tree_util.tree_leaves_with_path(shapes(convattn.models.CoAtNet(spec))["params"])
  parts = [(tuple(key.key for key in path[:2]), math.prod(leaf.shape)) for path, leaf in leaves]
  assert times.keys() <= {path for path, _ in parts}
  assert sum(size * times.get(path, 1) for path, size in parts) == EXPECTED[name]


@pytest.mark.parametrize(
  "overrides, size, expected",
  [
    ({"head": "plain"}, 224, 24_446_228),
    ({"stem_bias": True}, 224, 25_036_948),
    ({"conv_stride": "depthwise"}, 224, 25_036_820),
  ],
)
def test_parameters_with_options(overrides, size, expected):
  assert count(shapes(convattn.create_model("coatnet_0", **overrides), size)) == expected


def test_tables_grow_with_the_image():
  assert count(shapes(convattn.create_model("coatnet_3"), 384)) == 167_498_104
  assert count(shapes(convattn.create_model("coatnet_3"), 512)) == 168_130_936


def test_coatnet_6_with_the_width_that_the_text_implies():
  """Table 12 prints 2048 for the last stage; 3072 gives the 1.47 B parameters of the text."""
  spec = spec_for("coatnet_6")
  wide = dataclasses.replace(spec, stages=(*spec.stages[:-1], Stage((Run("T", 2, 3072),))))
  assert abs(count(shapes(convattn.models.CoAtNet(wide))) / 1.471e9 - 1) < 1e-3
