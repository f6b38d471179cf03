"""docs/segmentation.py runs as written."""

import pathlib
import runpy

import jax
import numpy as np
import pytest

from convattn.models import Run, Spec, Stage, variants
from convattn.training import run, sha256
from convattn.training.config import Checkpoint, Experiment, Model, Optimizer

DOCS = pathlib.Path(__file__).parent.parent / "docs"
TINY = Spec((Stage((Run("C", 1, 8),), 2), Stage((Run("T", 1, 8),), 1)), (4, 4), stem_stride=1, head_size=4)


@pytest.fixture(scope="module")
def segmentation():
  return runpy.run_path(str(DOCS / "segmentation.py"))


def test_mean_iou_is_that_of_sets_of_pixels(segmentation):
  true, predicted = np.random.default_rng(0).integers(0, 5, (2, 3, 4, 7))
  overlaps = []
  for label in range(5):
    ours, theirs = (set(map(tuple, np.argwhere(mask == label))) for mask in (true, predicted))
    overlaps.append(len(ours & theirs) / len(ours | theirs))
  assert segmentation["mean_iou"](true, predicted) == pytest.approx(np.mean(overlaps))
  assert segmentation["mean_iou"](true, true) == 1
  assert segmentation["mean_iou"](true, (true + 1) % 5) == 0


def test_scenes_are_made_of_the_digits_that_their_masks_name(segmentation):
  from convattn.data import load

  digits = load("digits").test
  for size in (24, 48):
    pixels, masks = segmentation["scenes"](digits, 5, size, seed=3)
    assert (pixels.shape, pixels.dtype, masks.shape) == ((5, size, size, 1), np.uint8, (5, size, size))
    assert (pixels[..., 0][masks > 0] > 100).all()
    for half in (masks[:, :, : size // 2], masks[:, :, size // 2 :]):
      assert all(len(set(np.unique(mask)) - {0}) == 1 for mask in half)
  again = segmentation["scenes"](digits, 5, 48, seed=3)
  np.testing.assert_array_equal(pixels, again[0])


@pytest.mark.slow
def test_the_frozen_stages_of_the_backbone_stand_still_and_all_else_moves(segmentation, tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(variants.VARIANTS, "tiny", TINY)
  run(Experiment(num_steps=1, batch_size=8, eval_batch_size=128, model=Model("tiny")), tmp_path)
  numbers = segmentation["main"]([f"--weights={tmp_path}", "--steps=3"])
  before, after = numbers["params"]
  for part, tree in before["backbone"].items():
    assert (sha256(tree) == sha256(after["backbone"][part])) == (part in ("stem", "stage_1")), part
  assert "classifier" not in before["backbone"]
  moved = jax.tree.map(lambda old, new: not np.array_equal(old, new), before["head"], after["head"])
  assert all(jax.tree.leaves(moved))
  assert "mean IoU after 3 steps" in capsys.readouterr().out


@pytest.mark.slow
def test_a_pretrained_backbone_learns_to_tell_the_digits_apart_pixel_by_pixel(segmentation, tmp_path):
  experiment = Experiment(
    num_steps=200,
    eval_every=200,
    model=Model("coatnet_mini_8"),
    optimizer=Optimizer(warmup_steps=20),
    checkpoint=Checkpoint(every=200),
  )
  run(experiment, tmp_path)
  numbers = segmentation["main"]([f"--weights={tmp_path}", "--steps=120"])
  assert numbers["before"] < 0.1
  assert numbers["after"] > 0.15  # calling every pixel ground reaches 1/11 at most
