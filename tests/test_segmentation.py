"""examples/segmentation.py: a model and a task of one's own through the loop, killed, continued, evaluated, used."""

import json
import os
import pathlib
import runpy
import signal

import numpy as np
import pytest

from convattn import inference
from convattn.models import Run, Spec, Stage, variants
from convattn.training import Terminated, run, sha256
from convattn.training.config import Checkpoint, Experiment, Model, Optimizer

EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "segmentation.py"
TINY = Spec((Stage((Run("C", 1, 8),), 2), Stage((Run("T", 1, 8),), 1)), (4, 4), stem_stride=1, head_size=4)


@pytest.fixture(scope="module")
def segmentation():
  return runpy.run_path(str(EXAMPLE), run_name="segmentation")


def test_mean_iou_is_that_of_sets_of_pixels(segmentation):
  true, predicted = np.random.default_rng(0).integers(0, 5, (2, 3, 4, 7))
  overlaps = []
  for label in range(5):
    ours, theirs = (set(map(tuple, np.argwhere(mask == label))) for mask in (true, predicted))
    overlaps.append(len(ours & theirs) / len(ours | theirs))

  def counts(true, predicted):
    return np.bincount((true * 5 + predicted).ravel(), minlength=25).reshape(5, 5)

  assert segmentation["mean_iou"](counts(true, predicted)) == pytest.approx(np.mean(overlaps))
  assert segmentation["mean_iou"](counts(true, true)) == 1
  assert segmentation["mean_iou"](counts(true, (true + 1) % 5)) == 0


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
def test_killed_it_goes_on_ends_as_if_it_had_not_been_and_is_restored(segmentation, tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(variants.VARIANTS, "tiny", TINY)
  weights = run(Experiment(num_steps=1, batch_size=8, eval_batch_size=128, model=Model("tiny")), tmp_path / "digits")
  command = [f"--weights={tmp_path / 'digits'}", "--steps=6"]
  whole = segmentation["main"]([*command, f"--workdir={tmp_path / 'whole'}"])
  rows = segmentation["Segmentation"].train_rows

  def killed(task, step, part):
    if step == 4:
      os.kill(os.getpid(), signal.SIGTERM)
    return rows(task, step, part)

  stopped = f"--workdir={tmp_path / 'stopped'}"
  monkeypatch.setattr(segmentation["Segmentation"], "train_rows", killed)
  with pytest.raises(Terminated):
    segmentation["main"]([*command, stopped])
  monkeypatch.setattr(segmentation["Segmentation"], "train_rows", rows)
  assert segmentation["main"]([*command, stopped]) == whole
  results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "stopped")]
  assert results[0]["state_sha256"] == results[1]["state_sha256"]
  assert results[0]["best/validation/digits"] == results[1]["best/validation/digits"]
  assert results[0]["test/digits"] == pytest.approx(whole["digits"], rel=1e-5)
  assert np.sum(json.loads((tmp_path / "whole" / "pixels.json").read_text())["sums"]) == 200 * 24 * 24
  assert "best validation digits" in capsys.readouterr().out
  # The frozen stages of the backbone stand still, and all else moves.
  restored = inference.restore(tmp_path / "whole", model=_model(segmentation, tmp_path / "digits"))
  assert not isinstance(restored, inference.Classifier)
  backbone = restored.variables["params"]["backbone"]
  for part, tree in backbone.items():
    assert (sha256(tree) == sha256(weights.params[part])) == (part in ("stem", "stage_1")), part
  assert "classifier" not in backbone


def _model(segmentation, digits):
  return segmentation["Segmenter"](inference.restore(digits).model.clone(num_classes=0, parent=None))


@pytest.mark.slow
def test_a_pretrained_backbone_learns_to_tell_the_digits_apart_pixel_by_pixel(segmentation, tmp_path):
  experiment = Experiment(
    num_steps=200,
    eval_every=200,
    model=Model("coatnet_mini_8"),
    optimizer=Optimizer(warmup_steps=20),
    checkpoint=Checkpoint(every=200),
  )
  run(experiment, tmp_path / "digits")
  command = [f"--weights={tmp_path / 'digits'}", "--steps=120", f"--workdir={tmp_path / 'segmentation'}"]
  assert segmentation["main"](command)["mean_iou"] > 0.15  # calling every pixel ground reaches 1/11 at most
