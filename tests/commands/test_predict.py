"""The predict command: names and probabilities of pictures, and one line for what is no picture."""

import errno
import io
import json
import os
import pathlib
import shutil
import sys

import jax
import numpy as np
import PIL.Image
import pytest

from convattn import inference, training
from convattn.commands import main
from convattn.commands.predict import find_pictures
from convattn.data import load
from convattn.inference import most_likely
from convattn.pretrained import open_picture


@pytest.fixture(scope="module")
def photographs():
  """Paths of scikit-learn's two sample photographs."""
  import sklearn.datasets

  folder = pathlib.Path(sklearn.datasets.__file__).parent / "images"
  return [folder / "china.jpg", folder / "flower.jpg"]


@pytest.fixture(scope="module")
def scans(digits_run, tmp_path_factory):
  """A folder with twelve digits of the test part: a.png to l.png, some of them deeper, and a file that is none."""
  folder = tmp_path_factory.mktemp("scans")
  (folder / "deep" / "er").mkdir(parents=True)
  digits = load("digits", str(digits_run.parent / "data"))
  for i, name in enumerate("abcdefghijkl"):
    place = folder / "deep" / "er" if name in "jkl" else folder
    PIL.Image.fromarray(digits.test[i]["image"][..., 0]).save(place / f"{name}.{'PNG' if i % 2 else 'png'}")
  (folder / "notes.txt").write_text("no picture")
  return folder


def reference(restored, paths):
  """Class name -> probability of each picture, by hand and in one batch."""
  inputs = np.stack([restored.preprocessing(open_picture(path)) for path in paths])
  logits = np.asarray(jax.jit(lambda x: restored.model.apply(restored.variables, x, train=False))(inputs), np.float64)
  weights = np.exp(logits - logits.max(1, keepdims=True))
  return [dict(zip(restored.class_names, row / row.sum(), strict=True)) for row in weights]


def test_a_folder_is_searched_and_every_picture_named(digits_run, scans, call, tmp_path):
  out_file = tmp_path / "a.json"
  status, out, err = call(
    "predict", f"--checkpoint={digits_run}", "--top=3", "--batch_size=5", f"--out={out_file}", scans
  )
  assert (status, err) == (0, "")
  found = json.loads(out_file.read_text())
  assert found["step"] == 40
  names = [pathlib.Path(row["image"]).stem for row in found["predictions"]]
  assert names == list("abcdjklefghi")
  restored = training.restore(digits_run)
  probabilities = reference(restored, [row["image"] for row in found["predictions"]])
  assert len({max(row, key=row.get) for row in probabilities}) > 3
  for row, wanted in zip(found["predictions"], probabilities, strict=True):
    best = sorted(wanted, key=wanted.get, reverse=True)[:3]
    assert [each["class"] for each in row["top"]] == best
    np.testing.assert_allclose([each["probability"] for each in row["top"]], [wanted[name] for name in best], rtol=1e-5)
    lines = [f"  {wanted[name]:>7.2%}  {name}" for name in best]
    assert "\n".join([row["image"], *lines]) + "\n" in out
  assert len(out.splitlines()) == 12 * 4


@pytest.mark.parametrize("weights", training.restoring.WEIGHTS)
def test_the_weights_that_are_asked_for_predict(weights, digits_run, scans, call, tmp_path):
  out_file = tmp_path / "a.json"
  options = (f"--checkpoint={digits_run}", f"--weights={weights}", "--top=1", f"--out={out_file}")
  assert call("predict", *options, scans / "a.png", scans / "c.png")[0] == 0
  found = json.loads(out_file.read_text())
  assert found["averaged"] == (weights == "averaged")
  wanted = reference(training.restore(digits_run, weights=weights), [scans / "a.png", scans / "c.png"])
  probabilities = [row["top"][0]["probability"] for row in found["predictions"]]
  np.testing.assert_allclose(probabilities, [max(row.values()) for row in wanted], rtol=1e-5)


def test_colour_photographs_go_through_a_grey_model(digits_run, photographs, call, tmp_path):
  status, out, _ = call("predict", f"--checkpoint={digits_run}", f"--out={tmp_path / 'a.json'}", *photographs)
  assert status == 0
  assert [line for line in out.splitlines() if not line.startswith(" ")] == [str(path) for path in photographs]
  restored = training.restore(digits_run)
  found = json.loads((tmp_path / "a.json").read_text())["predictions"]
  for row, wanted in zip(found, reference(restored, photographs), strict=True):
    assert len(row["top"]) == 5
    assert row["top"][0]["probability"] == pytest.approx(max(wanted.values()), rel=1e-5)


def test_a_tag_predicts_photographs(released, photographs, call, tmp_path):
  status, _, _ = call("predict", f"--checkpoint={released}", "--top=99", f"--out={tmp_path / 'a.json'}", *photographs)
  assert status == 0
  restored = training.restore(released)
  found = json.loads((tmp_path / "a.json").read_text())
  assert (found["checkpoint"], found["step"]) == (released, None)
  for row, wanted in zip(found["predictions"], reference(restored, photographs), strict=True):
    assert {each["class"] for each in row["top"]} == set(wanted)
    assert sum(each["probability"] for each in row["top"]) == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose([each["probability"] for each in row["top"]], sorted(wanted.values())[::-1], rtol=1e-4)


def test_a_corrupt_picture_is_named_and_the_others_are_predicted(digits_run, scans, refusal, tmp_path):
  shutil.copytree(scans, tmp_path / "scans")
  broken = tmp_path / "scans" / "c.png"
  broken.write_bytes(broken.read_bytes()[:60])
  options = ["predict", f"--checkpoint={digits_run}", "--batch_size=4", f"--out={tmp_path / 'a.json'}"]
  line, out = refusal(*options, tmp_path / "scans")
  assert line.startswith(f"'{broken}' is ")
  assert "of 12 pictures" not in line
  shown = [line for line in out.splitlines() if not line.startswith(" ")]
  assert len(shown) == 11 and str(broken) not in shown
  assert len(json.loads((tmp_path / "a.json").read_text())["predictions"]) == 11

  notes = tmp_path / "scans" / "notes.txt"
  os.truncate(tmp_path / "scans" / "b.PNG", 0)
  line, _ = refusal(*options, notes, tmp_path / "scans")
  assert line.startswith(f"3 of 13 pictures cannot be read: '{notes}' is no picture")
  assert line.endswith(f"Also '{tmp_path / 'scans' / 'b.PNG'}', '{broken}'.")
  line, out = refusal(*options, notes, notes, notes, notes, notes, notes)
  assert line.startswith("6 of 6 pictures") and line.endswith(" and 2 more.")
  assert out == ""


def test_a_picture_that_the_model_cannot_take_is_named(digits_run, refusal, tmp_path):
  PIL.Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tif")
  line, _ = refusal("predict", f"--checkpoint={digits_run}", tmp_path / "a.tif")
  assert line.startswith(f"'{tmp_path / 'a.tif'}': a picture of mode 'F'")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "which model? --checkpoint=DIR|TAG, such as --checkpoint=runs/digits."),
    (["--checkpoint=a"], "which pictures? Name files or folders behind the options"),
    (["--checkpoint=a", "nowhere.png"], "there is no file or folder 'nowhere.png'"),
    (["--checkpoint=a", "README.md", "nowhere.png"], "there is no file or folder 'nowhere.png'"),
    (["--checkpoint=a", "configs"], "the folder 'configs' holds no picture (.apng "),
    (["--checkpoint=a", "--top=0", "README.md"], "--top must be a whole number of at least 1, got '0'."),
    (["--checkpoint=a", "--batch_size=x", "README.md"], "--batch_size must be a whole number of at least 1"),
    (["--checkpoint=a", "--out=configs", "README.md"], "--out must name a file, got 'configs', which is a folder."),
    (["--checkpoint=a", "--topp=1", "README.md"], "there is no option --topp; did you mean --top?"),
    (["--checkpoint=a", "-x", "README.md"], "expected an option such as --name=value, got '-x'."),
    (["--checkpoint=nowhere/a", "README.md"], "there is no folder nowhere/a; name a run's workdir"),
    (["--checkpoint=README.md", "README.md"], "README.md is no folder; name a run's workdir"),
    (["--checkpoint=configs", "README.md"], "configs holds no checkpoint"),
  ],
)
def test_a_wrong_prediction_is_one_line(refusal, monkeypatch, arguments, message):
  monkeypatch.chdir(pathlib.Path(__file__).parents[2])
  line, out = refusal("predict", *arguments)
  assert line.startswith(message)
  assert out == ""


def test_a_checkpoint_of_another_kind_is_one_line(edited, refusal):
  folder = edited(model={"class": "elsewhere.Sequence", "width": "3"})
  line, _ = refusal("predict", f"--checkpoint={folder}", __file__)
  assert f"the checkpoint {folder} holds a model of class 'elsewhere.Sequence'" in line


def test_a_model_that_diverged_is_one_line(digits_run, scans, refusal, monkeypatch):
  restored = training.restore(digits_run)
  object.__setattr__(restored, "variables", jax.tree.map(lambda leaf: leaf * np.inf, restored.variables))
  monkeypatch.setattr(inference, "restore_classifier", lambda source, **_: restored)
  line, _ = refusal("predict", f"--checkpoint={digits_run}", scans)
  assert "gives logits that are not finite; its training diverged" in line


def test_pictures_are_sorted_in_each_folder_and_the_given_order_is_kept(tmp_path):
  for name in ("b/2.png", "b/1.JPG", "b/c/0.webp", "b/x.txt", "b/.png", "a/9.png", "plain"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("")
  (tmp_path / "b" / "folder.png").mkdir()
  found = find_pictures([str(tmp_path / "plain"), str(tmp_path / "b"), str(tmp_path / "a")])
  assert [str(path.relative_to(tmp_path)) for path in found] == ["plain", "b/1.JPG", "b/2.png", "b/c/0.webp", "a/9.png"]


def test_probabilities_are_the_softmax_and_equal_ones_keep_their_order():
  best = most_likely(np.array([1.0, 3.0, 3.0, -1000.0], np.float32), "abcd", 4)
  assert [name for name, _ in best] == ["b", "c", "a", "d"]
  weights = np.exp([3.0, 3.0, 1.0, -1000.0])
  np.testing.assert_allclose([p for _, p in best], weights / weights.sum(), rtol=1e-14)
  shifted = most_likely(np.array([11.0, 13.0, 13.0, -990.0], np.float32), "abcd", 2)
  assert shifted == best[:2]


def test_the_file_is_written_although_nobody_reads_on(digits_run, scans, tmp_path, monkeypatch, capsys):
  class Left(io.StringIO):
    def write(self, text):
      raise BrokenPipeError(errno.EPIPE, "Broken pipe")

  arguments = ["predict", f"--checkpoint={digits_run}", str(scans)]
  monkeypatch.setattr(sys, "stdout", Left())
  assert main(arguments) == 141  # nothing is left to do without a reader
  out_file = tmp_path / "a.json"
  monkeypatch.setattr(sys, "stdout", Left())
  assert main([*arguments, f"--out={out_file}"]) == 0
  assert len(json.loads(out_file.read_text())["predictions"]) == 12
  assert capsys.readouterr().err == "note: the output takes no more (Broken pipe); the work goes on without it.\n"


def test_a_bar_is_drawn_where_there_is_a_terminal(digits_run, scans, call, monkeypatch):
  _, plain, quiet = call("predict", f"--checkpoint={digits_run}", scans)
  monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
  _, out, err = call("predict", f"--checkpoint={digits_run}", scans)
  assert quiet == "" and "/12 [" in err
  assert out.replace("\r", "").strip() == plain.strip()
