"""The export command: two files, what is printed about them, and one line for what cannot be."""

import json

import jax
import numpy as np
import pytest
from jax import export

from convattn import training


def test_a_run_becomes_a_file(digits_run, call, tmp_path):
  out_file = tmp_path / "digits.stablehlo"
  status, out, err = call("export", f"--checkpoint={digits_run}", f"--out={out_file}")
  assert (status, err) == (0, "")
  lines = out.splitlines()
  assert lines[0] == f"{out_file}  {out_file.stat().st_size / 2**20:.1f} MiB"
  assert lines[1] == f"{tmp_path / 'digits.json'}  class names, preprocessing, versions"
  assert lines[2] == f"source     {digits_run / 'checkpoints' / '40'}, step 40, averaged weights"
  assert lines[3:] == [
    "platforms  cpu, cuda, tpu",
    "input      pixels uint8 [b, 8, 8, 1]",
    "output     logits float32 [b, 10]",
  ]
  description = json.loads((tmp_path / "digits.json").read_text())
  assert description["class_names"] == list("0123456789")
  restored = training.restore(digits_run)
  pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
  logits = export.deserialize(bytearray(out_file.read_bytes())).call(pixels)
  images = restored.preprocessing.normalize(pixels)
  wanted = jax.jit(lambda x: restored.model.apply(restored.variables, x, train=False))(images)
  np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-5)


def test_the_raw_weights_are_exported_where_they_are_asked_for(digits_run, call, tmp_path):
  out_file = tmp_path / "digits.stablehlo"
  options = (f"--checkpoint={digits_run}", f"--out={out_file}", "--weights=raw", "--platforms=cpu")
  _, out, _ = call("export", *options)
  assert f"source     {digits_run / 'checkpoints' / '40'}, step 40, raw weights" in out.splitlines()
  assert json.loads((tmp_path / "digits.json").read_text())["averaged"] is False
  pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
  logits = export.deserialize(bytearray(out_file.read_bytes())).call(pixels)
  raw, averaged = (training.restore(digits_run, weights=each) for each in ("raw", "averaged"))
  images = raw.preprocessing.normalize(pixels)
  apply = jax.jit(lambda variables: raw.model.apply(variables, images, train=False))
  np.testing.assert_allclose(logits, apply(raw.variables), rtol=1e-5, atol=1e-5)
  assert np.abs(logits - apply(averaged.variables)).max() > 1e-3


def test_a_tag_for_one_platform_and_another_size(released, call, tmp_path):
  out_file = tmp_path / "toy"
  arguments = (f"--checkpoint={released}", f"--out={out_file}", "--image_size=64x32", "--platforms=tpu,cpu")
  status, out, err = call("export", *arguments)
  assert (status, err) == (0, "")
  assert out.splitlines()[2:] == [
    f"source     {released}",
    "platforms  tpu, cpu",
    "input      pixels uint8 [b, 64, 32, 3]",
    "output     logits float32 [b, 10]",
  ]
  assert json.loads((tmp_path / "toy.json").read_text())["platforms"] == ["tpu", "cpu"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "which model? --checkpoint=DIR|TAG, such as --checkpoint=runs/digits."),
    (["--checkpoint=x"], "where to? --out=FILE, such as --out=model.stablehlo."),
    (
      ["--checkpoint=x", "--out=a", "--image_size=8x"],
      "--image_size must be a number of pixels such as 384, or height",
    ),
    (["--checkpoint=x", "--out=a", "--platform=cpu"], "there is no option --platform; did you mean --platforms?"),
    (["--checkpoint=x/y", "--out=a"], "there is no folder x/y; name a run's workdir"),
    (["--checkpoint=coatnet_0_224.untrained", "--out=a"], "nobody has published trained weights of 'coatnet_0_224'"),
    (["--checkpoint=x", "--out=."], "--out must name a file, got '.', which is a folder."),
    (["--checkpoint=x", "--out=nowhere/a"], "--out=nowhere/a: there is no folder 'nowhere'"),
  ],
)
def test_a_wrong_request_is_one_line(arguments, message, refusal, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  line, out = refusal("export", *arguments)
  assert line.startswith(message)
  assert out == ""
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ("option", "message"),
  [
    ("--platforms=cpu,gpu", "platforms are cpu, gpu, but must be some of cpu, cuda, tpu."),
    ("--out=a.json", "the artifact cannot be a.json, where its description goes; choose another suffix."),
    ("--out=/dev/null", "the artifact cannot be /dev/null, since its description goes beside it; name a file."),
  ],
)
def test_what_is_found_wrong_later_is_one_line_too(digits_run, option, message, refusal, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  options = {"--checkpoint": digits_run, "--out": "a", "--platforms": "cpu"} | dict([option.split("=")])
  assert refusal("export", *(f"{name}={value}" for name, value in options.items())) == (message, "")
  assert list(tmp_path.iterdir()) == []


def test_a_program_for_any_size_is_one_line_where_the_model_belongs_to_one(digits_run, refusal, tmp_path):
  options = (f"--checkpoint={digits_run}", f"--out={tmp_path / 'a'}", "--platforms=cpu", "--image_size=any")
  line, out = refusal("export", *options)
  assert line == "no program of this model takes images of any size, since bias tables belong to one; export each."
  assert out == ""
  assert list(tmp_path.iterdir()) == []


def test_a_place_that_takes_no_file_is_one_line(digits_run, refusal):
  line, _ = refusal("export", f"--checkpoint={digits_run}", "--out=/proc/a.stablehlo", "--platforms=cpu")
  assert "/proc/" in line
