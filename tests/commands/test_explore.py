"""The explore command: a page whose numbers are those of the analysis, and one line for what cannot be shown."""

import json
import re
import shutil

import numpy as np
import PIL.Image
import pytest

from convattn import inference, training
from convattn.analysis import attention_maps, convolution_kernels, margins, occlusion
from convattn.commands import explore, figures
from convattn.data import load
from convattn.viz.packed_layers import softmax
from convattn.viz.packing import unpack


def manifest_of(path):
  text = path.read_text()
  (found,) = re.findall(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)
  return json.loads(found)


def probabilities_of(layer):
  """As the page makes them of what it stores."""
  arrays = {name: unpack(blob) for name, blob in layer["arrays"].items()}
  return softmax(arrays["content"] + arrays["position"])


@pytest.fixture(scope="module")
def restored(digits_run):
  return training.restore(digits_run)


@pytest.fixture(scope="module")
def digits(digits_run):
  return load("digits", str(digits_run.parent / "data")).test


def test_the_numbers_of_the_page_are_those_of_the_analysis(digits_run, restored, digits, call, tmp_path):
  out = tmp_path / "page.html"
  status, text, _ = call("explore", f"--checkpoint={digits_run}", "--count=3", f"--out={out}")
  assert status == 0
  first, *lines = text.splitlines()
  assert first == f"{out}  {out.stat().st_size / 1e6:.1f} MB"
  assert lines[0].endswith(f"{restored.source}, step 40, averaged weights.")
  assert "1 on a grid of 2 × 2 cells" in lines[1]

  page = manifest_of(out)
  assert page["lines"] == lines
  assert page["class_names"] == [*"0123456789"]
  ((logits, _),) = inference.logits_of(restored, [(digits.images, None)], len(digits))
  margin = margins(logits, digits.labels)
  numbers = [int(image["name"].removeprefix("test image ")) for image in page["images"]]
  assert numbers[0] == margin.argmin()
  pixels = digits.images[numbers]
  for image, number in zip(page["images"], numbers, strict=True):
    assert (image["label"], image["predicted"]) == (digits.labels[number], logits[number].argmax())
    np.testing.assert_array_equal(unpack(image["pixels"]), digits.images[number].repeat(3, -1))
    wanted = np.exp(logits[number]) / np.exp(logits[number]).sum()
    np.testing.assert_allclose(image["probabilities"], wanted, atol=1e-5)

  images = restored.preprocessing.normalize(pixels)
  (wanted,) = attention_maps(restored.model, restored.variables, images)
  (layer,) = [each for each in page["layers"] if each["kind"] == "attention"]
  assert (layer["name"], layer["num_heads"]) == (wanted.layer, wanted.num_heads)
  np.testing.assert_allclose(probabilities_of(layer), wanted.probabilities, atol=1e-3)
  assert np.ptp(wanted.probabilities, axis=0).max() > 1e-2  # which image is which is seen in them
  kernels = convolution_kernels(restored.model, restored.variables, images)
  shown = [each for each in page["layers"] if each["kind"] == "convolution"]
  assert [each["name"] for each in shown] == [each.layer for each in kernels]
  assert "stage_1/block_0/depthwise" in [each.layer for each in kernels]
  for each, kernel in zip(shown, kernels, strict=True):
    np.testing.assert_allclose(unpack(each["taps"]), kernel.tap_norms, atol=1e-3)

  hidden = occlusion(restored.model, restored.variables, images, window=3, stride=1)
  shown = [each for each in page["overlays"] if each["name"] == hidden.name]
  assert [each["image"] for each in shown] == [0, 1, 2]
  for each, values in zip(shown, hidden.values, strict=True):
    np.testing.assert_allclose(unpack(each["values"]), values, atol=1e-3)
  assert {each["name"] for each in page["overlays"]} == {
    *("rollout", "Grad-CAM", "class map", "occlusion", "receptive field")
  }
  assert "lacks" not in page["model"]
  assert page["timeline"] == [] and page["compare"] is None


def test_pictures_of_ones_own(digits_run, restored, digits, call, tmp_path):
  folder = tmp_path / "pictures"
  folder.mkdir()
  for name, number in (("a.png", 4), ("<b>.png", 9)):
    PIL.Image.fromarray(digits.images[number][..., 0]).resize((20, 24)).save(folder / name)
  out = tmp_path / "page.html"
  status, _, err = call("explore", f"--checkpoint={digits_run}", f"--images={folder}", folder / "a.png", f"--out={out}")
  assert (status, err) == (0, "")
  page = manifest_of(out)
  assert [image["name"] for image in page["images"]] == ["<b>.png", "a.png", "a.png"]
  assert [image["label"] for image in page["images"]] == [None] * 3
  assert "<b>.png" not in out.read_text()  # as data alone, in which no < stands
  pixels = restored.preprocessing.pixels(inference_picture(folder / "a.png"))
  np.testing.assert_array_equal(unpack(page["images"][1]["pixels"]), pixels.repeat(3, -1))


def inference_picture(path):
  from convattn.pretrained import open_picture

  return open_picture(path)


def test_a_second_model_stands_beside_the_first_on_the_same_images(digits_run, call, tmp_path):
  out = tmp_path / "page.html"
  options = [f"--compare={digits_run / 'checkpoints' / '40'}", "--weights=raw", "--count=2", f"--out={out}"]
  status, text, _ = call("explore", f"--checkpoint={digits_run}", *options)
  assert status == 0
  page = manifest_of(out)
  other = page["compare"]["lines"]
  assert text.splitlines()[-2:] == [f"Compared with {other[0]}", f"Compared: {other[-1]}"]
  assert "raw" in page["lines"][0] and "averaged" in other[0] and other[-1].startswith("SHA-256")
  assert page["compare"]["images"][0]["pixels"] == page["images"][0]["pixels"]
  assert page["compare"]["checkpoint"]["digest"] != page["checkpoint"]["digest"]  # averaged weights, and raw ones
  ours, theirs = (next(each for each in one["layers"] if "arrays" in each) for one in (page, page["compare"]))
  assert np.abs(probabilities_of(ours) - probabilities_of(theirs)).max() > 1e-3


def test_what_cannot_be_shown_is_one_line_and_writes_nothing(digits_run, edited, released, refusal, tmp_path):
  run = f"--checkpoint={digits_run}"
  out = f"--out={tmp_path / 'page.html'}"
  broken, unknown = tmp_path / "x.png", edited(model={"class": "their.Model"})
  broken.write_text("no picture")
  (tmp_path / "empty").mkdir()
  data = [f"--config.data.{name}={value}" for name, value in (("name", "digits"), ("dir", digits_run.parent / "data"))]
  for arguments, message in (
    ([], "which model? --checkpoint=DIR|TAG"),
    ([run, "--imges=x"], "there is no option --imges; did you mean --images?"),
    ([run, "--count=0"], "--count must be a whole number of at least 1, got '0'."),
    ([run, "--max-megabytes=0"], "--max-megabytes must be a number above 0 such as 20 or 0.5, got '0'."),
    ([run, "--max-megabytes=0.1"], "above --max-megabytes=0.1"),
    ([run, f"--out={tmp_path}"], "which is a folder"),
    ([run, f"--images={broken}"], f"'{broken}' is no picture that Pillow can read"),
    ([run, f"--images={tmp_path / 'nothing'}"], "there is no file or folder"),
    ([run, f"--images={tmp_path / 'empty'}"], "holds no picture"),
    ([run, f"--images={broken}", *data], "both name images; leave one of them out."),
    ([f"--checkpoint={tmp_path / 'empty'}"], "holds no checkpoint"),
    ([f"--checkpoint={unknown}"], "holds a model of class 'their.Model'"),
    ([run, "--layers=stage_9/*"], "no layer that attends is called 'stage_9/*'; there are stage_2/block_0/attention."),
    ([run, "--count=100000"], "leave out images (--count="),
    ([run, f"--compare={released}"], "takes images of 32 × 32 × 3, but"),
    ([f"--checkpoint={released}"], "comes without data; name some"),
  ):
    given = arguments if any("--out" in each for each in arguments) else [*arguments, out]
    line, shown = refusal("explore", *given)
    assert message in line, arguments
    assert shown == ""
  assert not (tmp_path / "page.html").exists()


@pytest.fixture
def ended(digits_run, tmp_path, monkeypatch):
  """A workdir in which a run has ended, and a trainer that leaves it as it is."""
  monkeypatch.setattr(training, "run", lambda *_, **__: None)
  return shutil.copytree(digits_run, tmp_path / "run")


def test_a_training_ends_with_the_page_unless_it_is_told_not_to(ended, call):
  data = f"--config.data.dir={ended.parent / 'data'}"
  status, out, err = call("train", f"--workdir={ended}", data, "--config.explore=0")
  assert status == 0
  assert "explore.html" not in out + err and not (ended / "explore.html").exists()
  status, out, _ = call("train", f"--workdir={ended}", data, "--config.explore=2")
  assert status == 0
  assert out.splitlines()[-1] == f"{ended / 'explore.html'}: what the model looks at; open it in a browser"
  assert len(manifest_of(ended / "explore.html")["images"]) == 2


def test_a_page_that_cannot_be_made_is_a_note_and_not_the_end_of_a_run(ended, call):
  shutil.rmtree(ended / "checkpoints" / "40" / "description")
  status, out, err = call("train", f"--workdir={ended}", "--config.explore=2")
  assert status == 0
  assert "explore.html" not in out
  assert "note: explore.html could not be made: " in err
  assert not (ended / "explore.html").exists()


def test_report_makes_the_page_again_of_a_run_that_has_ended(ended, call, monkeypatch):
  asked = []
  monkeypatch.setattr(figures, "page", lambda workdir, count: asked.append((workdir, count)) or iter(()))
  path = ended / "config.json"
  stored = json.loads(path.read_text())
  del stored["explore"]  # recorded before there was such a page
  path.write_text(json.dumps(stored))
  assert call("report", f"--workdir={ended}")[0] == 0
  path.write_text(json.dumps({**stored, "explore": 3}))
  assert call("report", f"--workdir={ended}")[0] == 0
  (ended / "result.json").unlink()
  assert call("report", f"--workdir={ended}")[0] == 0
  assert asked == [(ended, 12), (ended, 3), (ended, 0)]


@pytest.mark.slow
def test_the_states_that_a_run_kept_are_on_a_slider(call, tmp_path):
  settings = {"num_steps": 6, "batch_size": 8, "eval_batch_size": 120, "eval_every": 2, "optimizer.warmup_steps": 1}
  settings |= {"checkpoint.every": 2, "checkpoint.keep_newest": 1, "checkpoint.keep_every": 1, "explore": 2}
  options = [f"--config.{name}={value}" for name, value in (settings | {"data.dir": tmp_path}).items()]
  workdir = tmp_path / "run"
  assert call("train", f"--workdir={workdir}", *options)[0] == 0
  page = manifest_of(workdir / "explore.html")
  assert [each["step"] for each in page["timeline"]] == [2, 4, 6]
  digits = load("digits", str(tmp_path)).test
  numbers = [int(image["name"].removeprefix("test image ")) for image in page["images"]]
  for then in page["timeline"]:
    state = training.restore(workdir / "checkpoints" / str(then["step"]))
    maps = attention_maps(state.model, state.variables, state.preprocessing.normalize(digits.images[numbers]))
    assert [layer["name"] for layer in then["layers"]] == [each.layer for each in maps]
    for layer, wanted in zip(then["layers"], maps, strict=True):
      np.testing.assert_allclose(probabilities_of(layer), wanted.probabilities, atol=1e-3)
  first, last = (probabilities_of(each["layers"][0]) for each in (page["timeline"][0], page["timeline"][-1]))
  assert np.abs(first - last).max() > 1e-4


def test_a_page_that_came_out_larger_than_was_estimated_is_said_to_be(tmp_path):
  path = tmp_path / "page.html"
  path.write_bytes(bytes(1_500_000))
  (line,) = explore.larger(path, 1.4)
  assert line.startswith("the page has 1.5 MB, more than --max-megabytes=1.4, ")
  assert explore.larger(path, 1.5) == []


@pytest.mark.slow
def test_a_tag_looks_at_a_photograph(released, call, tmp_path):
  out, photograph = tmp_path / "page.html", tmp_path / "photograph.png"
  PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8)).save(photograph)
  status, _, _ = call("explore", f"--checkpoint={released}", f"--images={photograph}", f"--out={out}")
  assert status == 0
  page = manifest_of(out)
  assert page["checkpoint"]["step"] is None and [each["name"] for each in page["images"]] == [photograph.name]
  restored = training.restore(released)
  pixels = restored.preprocessing.pixels(PIL.Image.open(photograph))
  images = restored.preprocessing.normalize(pixels[None])
  maps = attention_maps(restored.model, restored.variables, images)
  layers = [each for each in page["layers"] if each["kind"] == "attention"]
  assert [each["name"] for each in layers] == [each.layer for each in maps]
  for layer, wanted in zip(layers, maps, strict=True):
    np.testing.assert_allclose(probabilities_of(layer), wanted.probabilities, atol=1e-3)
