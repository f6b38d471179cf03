"""The evaluate command: the numbers of training again, exactly, and one line for what cannot be scored."""

import json
import os

import jax
import numpy as np
import PIL.Image
import pytest

from convattn import inference, training
from convattn.data import load


def test_it_repeats_what_training_has_measured(digits_run, call, tmp_path):
  status, out, _ = call("evaluate", f"--checkpoint={digits_run}", f"--out={tmp_path / 'a.json'}", "--batch_size=77")
  assert status == 0
  result, found = (json.loads(path.read_text()) for path in (digits_run / "result.json", tmp_path / "a.json"))
  assert found["accuracy"] == result["test_ema/accuracy"] > 0.3
  assert found["accuracy"] != result["test/accuracy"]
  assert found["loss"] == pytest.approx(result["test_ema/loss"], rel=1e-6)
  assert (found["images"], found["split"], found["step"], found["averaged"]) == (360, "test", 40, True)
  assert np.trace(found["confusion"]) / 360 == found["accuracy"]
  assert out.splitlines()[:2] == [
    f"{digits_run / 'checkpoints' / '40'}, step 40, averaged weights",
    f"test split of digits in {digits_run.parent / 'data'}",
  ]
  assert f"accuracy           {found['accuracy']:.2%}" in out


def test_the_raw_weights_are_scored_where_they_are_asked_for(digits_run, call, tmp_path):
  options = [f"--checkpoint={digits_run}", "--weights=raw", f"--out={tmp_path / 'a.json'}"]
  status, out, _ = call("evaluate", *options)
  assert status == 0
  result, found = (json.loads(path.read_text()) for path in (digits_run / "result.json", tmp_path / "a.json"))
  assert found["accuracy"] == result["test/accuracy"]
  assert found["loss"] == pytest.approx(result["test/loss"], rel=1e-6)
  assert found["averaged"] is False
  assert out.splitlines()[0] == f"{digits_run / 'checkpoints' / '40'}, step 40, raw weights"


def test_the_size_of_a_batch_changes_no_number(digits_run, call, tmp_path):
  outs = []
  for size in (360, 7):
    out = tmp_path / f"{size}.json"
    options = [f"--checkpoint={digits_run}", "--split=validation", f"--batch_size={size}", f"--out={out}"]
    assert call("evaluate", *options)[0] == 0
    outs.append(json.loads(out.read_text()))
  first, second = outs
  assert first["images"] == 144
  assert first["confusion"] == second["confusion"]
  assert first["loss"] == pytest.approx(second["loss"], rel=1e-6)


def test_other_data_are_scored_with_the_models_preprocessing(digits_run, call, tmp_path):
  """The same digits as pictures in folders, in colour."""
  digits = load("digits", str(digits_run.parent / "data"))
  for split in ("train", "validation", "test"):
    for i in range(0, 144 if split == "validation" else 360, 4):
      item = getattr(digits, split)[i]
      folder = tmp_path / "pictures" / split / str(item["label"])
      folder.mkdir(parents=True, exist_ok=True)
      PIL.Image.fromarray(item["image"][..., 0]).convert("RGB").save(folder / f"{i}.png")
  pictures = ["--config.data.name=folder", f"--config.data.dir={tmp_path / 'pictures'}"]
  status, out, _ = call("evaluate", f"--checkpoint={digits_run}", *pictures, f"--out={tmp_path / 'a.json'}")
  assert status == 0
  assert "note:" not in out
  found = json.loads((tmp_path / "a.json").read_text())
  restored = training.restore(digits_run)
  images = np.stack([digits.test[i]["image"] for i in range(0, 360, 4)])
  labels = np.array([digits.test[i]["label"] for i in range(0, 360, 4)])
  apply = jax.jit(lambda inputs: restored.model.apply(restored.variables, inputs, train=False))
  logits = apply(restored.preprocessing.normalize(images))
  assert found["images"] == 90
  assert found["accuracy"] == (np.argmax(logits, -1) == labels).mean()
  assert found["data"]["image_size"] == 8


def test_a_tag_is_scored_on_the_data_that_are_named(released, digits_run, call, tmp_path):
  data = ["--config.data.name=digits", f"--config.data.dir={digits_run.parent / 'data'}"]
  status, out, _ = call("evaluate", f"--checkpoint={released}", *data, f"--out={tmp_path / 'a.json'}")
  assert status == 0
  assert out.splitlines()[0] == released
  assert out.splitlines()[2] == (
    "note: classes are compared by their number, but named differently: class 0 is 'imagenet12k_0' to the model, '0' "
    "in the data"
  )
  found = json.loads((tmp_path / "a.json").read_text())
  assert (found["images"], found["step"], found["averaged"]) == (360, None, False)
  assert found["data"]["image_size"] == 32


def test_the_bar_is_on_the_terminal_and_the_numbers_are_on_stdout(digits_run, call, monkeypatch):
  monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
  status, out, err = call("evaluate", f"--checkpoint={digits_run}")
  assert status == 0
  assert "360" in err and " images" in err
  assert "360/360" not in out


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "which model? --checkpoint=DIR|TAG, such as --checkpoint=runs/digits."),
    (["--checkpoint=a", "--split=dev"], "--split must be one of train, validation, test, got 'dev'."),
    (["--checkpoint=a", "--batch_size=0"], "--batch_size must be a whole number of at least 1, got '0'."),
    (["--checkpoint=a", "--out=nowhere/a.json"], "--out=nowhere/a.json: there is no folder 'nowhere'"),
    (["--checkpoint=a", "--config.data.nam=x"], "there is no setting 'data.nam'; did you mean data.name"),
    (["--checkpoint=a", "--config.data.image_size=x"], "data.image_size must be a whole number, got 'x'."),
    (["--checkpoint=a", "--config.seed=1"], "there is no option --config.seed; did you mean --"),
    (["--checkpoint=a", "--workdir=b"], "there is no option --workdir"),
    (["--checkpoint=a", "b"], "expected an option such as --name=value, got 'b'."),
    (["--checkpoint=a", "--weights=ema"], "weights must be one of averaged, raw, got 'ema'."),
    (["--checkpoint=nowhere/a"], "there is no folder nowhere/a; name a run's workdir"),
    (["--checkpoint=coatnet_0_rw_224.sw"], "there is no folder 'coatnet_0_rw_224.sw', and timm has no CoAtNet"),
  ],
)
def test_a_wrong_evaluation_is_one_line(refusal, arguments, message):
  line, out = refusal("evaluate", *arguments)
  assert line.startswith(message)
  assert out == ""


def test_mistakes_are_found_before_anything_is_read(refusal, monkeypatch):
  monkeypatch.setattr(training, "restore", None)
  refusal("evaluate", "--checkpoint=a", "--config.data.classes=1", "--config.data.seed=x")


def test_data_that_do_not_fit_are_one_line(digits_run, released, edited, refusal):
  run = f"--checkpoint={digits_run}"
  assert "unknown data set 'digit'; did you mean 'digits'?" in refusal("evaluate", run, "--config.data.name=digit")[0]
  line, _ = refusal("evaluate", run, "--config.data.image_size=16")
  assert "bias table" in line and "resize" in line
  line, _ = refusal("evaluate", f"--checkpoint={released}")
  assert line == (f"{released} comes without data; name some, such as --config.data.name=folder --config.data.dir=DIR.")
  line, _ = refusal("evaluate", f"--checkpoint={edited(class_names=list('abcdefghij'))}")
  assert "are not those it was trained on (class 0 is 'a' to the model, '0' in the data)" in line


def test_a_folder_that_a_run_named_as_seen_from_elsewhere_is_said_to_be_its(digits_run, edited, refusal):
  description = json.loads((digits_run / "checkpoints" / "40" / "description" / "metadata").read_text())
  description["experiment"]["data"] |= {"name": "folder", "dir": "pics"}
  checkpoint = edited(experiment=description["experiment"])
  line, _ = refusal("evaluate", f"--checkpoint={checkpoint}")
  assert "pics" in line
  assert line.endswith(f"(data.dir is 'pics' in the settings of {checkpoint}; give another by --config.data.dir.)")
  line, _ = refusal("evaluate", f"--checkpoint={checkpoint}", "--config.data.dir=pics")
  assert "in the settings of" not in line


def test_a_run_on_a_task_of_ones_own_is_scored_on_data_that_are_named_only(digits_run, call, edited, refusal):
  folder = edited(task_passed_in_python=True)
  line, _ = refusal("evaluate", f"--checkpoint={folder}", "--config.data.classes=0-9")
  assert line == (
    f"the task of {folder} was passed to training.run in Python, so its settings do not name its data; name some with "
    f"--config.data.name=..., or score its own in Python with training.restore({str(folder)!r}) (docs/data.md, "
    f'"Arrays of your own").'
  )
  named = ["--config.data.name=digits", f"--config.data.dir={digits_run.parent / 'data'}"]
  status, out, _ = call("evaluate", f"--checkpoint={folder}", *named)
  assert (status, "note:" in out) == (0, False)
  assert "360" in out


def test_a_broken_picture_and_a_broken_model_are_one_line(digits_run, refusal, tmp_path, monkeypatch):
  for label in range(10):
    for split in ("train", "validation", "test"):
      (tmp_path / "pictures" / split / str(label)).mkdir(parents=True)
      PIL.Image.new("L", (8, 8)).save(tmp_path / "pictures" / split / str(label) / "a.png")
  broken = tmp_path / "pictures" / "test" / "3" / "a.png"
  broken.write_bytes(broken.read_bytes()[:45])
  pictures = ["--config.data.name=folder", f"--config.data.dir={tmp_path / 'pictures'}"]
  line, out = refusal("evaluate", f"--checkpoint={digits_run}", *pictures)
  assert str(broken) in line
  assert out == ""
  restored = training.restore(digits_run)
  object.__setattr__(restored, "variables", jax.tree.map(lambda leaf: leaf * np.inf, restored.variables))
  monkeypatch.setattr(inference, "restore_classifier", lambda source, **_: restored)
  assert "gives logits that are not finite" in refusal("evaluate", f"--checkpoint={digits_run}")[0]


def test_broken_pictures_that_are_left_out_are_counted_also_by_processes(digits_run, call, refusal, tmp_path):
  for label in range(10):
    for split in ("train", "validation", "test"):
      (tmp_path / split / str(label)).mkdir(parents=True)
      PIL.Image.new("L", (8, 8), 20 * label).save(tmp_path / split / str(label) / "a.png")
  for label in (3, 5):
    (tmp_path / "test" / str(label) / "a.png").write_text("")
  options = [f"--checkpoint={digits_run}", "--config.data.name=folder", f"--config.data.dir={tmp_path}"]
  found = []
  for workers in (0, 1):
    changed = ["--config.data.broken=skip", f"--config.data.workers={workers}", f"--out={tmp_path / 'a.json'}"]
    status, out, err = call("evaluate", *options, *changed)
    assert status == 0
    assert "note: 2 pictures could not be read and are left out" in out.splitlines()
    assert err.count("skipped: ") == 2
    found.append(json.loads((tmp_path / "a.json").read_text()))
  assert found[0]["skipped_pictures"] == 2 and found[0]["images"] == 8
  assert found[0]["loss"] == found[1]["loss"]
  for path in (tmp_path / "test").rglob("*.png"):
    path.unlink()
    path.symlink_to("nowhere.png")  # a name, but nothing behind it
  assert "10 pictures in a row cannot be read" in refusal_of_many(call, *options, "--config.data.broken=skip")


def refusal_of_many(call, *arguments):
  """The line that ends a command that has told of skipped pictures before."""
  status, out, err = call("evaluate", *arguments)
  lines = [line for line in err.splitlines() if not line.startswith("skipped: ")]
  assert (status, out, len(lines)) == (2, "", 1)
  return lines[0]


def test_a_damaged_checkpoint_is_one_line_also_past_python(digits_run, refusal, edited):
  folder = edited()
  os.truncate(folder / "state" / "manifest.ocdbt", 10)
  assert refusal("evaluate", f"--checkpoint={folder}")[0].startswith(f"the checkpoint {folder} is damaged (")
