"""Whether a run turns its pictures is stored with it, and followed when it goes on, predicts and is scored."""

import dataclasses
import json

import numpy as np
import PIL.Image
import pytest

from convattn.errors import UserError
from convattn.pretrained import Preprocessing
from convattn.training import ImageClassification, restore, run, runs, workdir as files
from convattn.training.classification import load_dataset
from convattn.training.config import Data, Experiment
from convattn.training.init_from import Initial

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
  """Two classes that differ in where they are light; the files of one say that they lie upside down."""
  root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
  upside_down = PIL.Image.Exif()
  upside_down[0x0112] = 3
  for name in ("dark", "light"):
    (root / name).mkdir()
    for i in range(10):
      pixels = rng.integers(0, 100, (7, 5, 3), np.uint8)
      pixels[:3] += 150 if name == "light" else 50
      exif = {"exif": upside_down} if name == "light" else {}
      PIL.Image.fromarray(pixels).save(root / name / f"{i}.png", **exif)
  (root / "dark" / "notes.txt").write_text("")
  return root


def experiment(toy, pictures, **changes):
  return dataclasses.replace(toy.short(8), data=Data("folder", str(pictures), image_size=6, **changes))


def preprocessing(folder):
  return json.loads((folder / files.CONFIG).read_text())[files.IDENTITY]["data"]["metadata"]["preprocessing"]


def test_a_new_run_on_a_folder_turns_and_says_what_it_found(toy, pictures, tmp_path, capsys):
  new = experiment(toy, pictures)
  run(new, tmp_path, model=toy.Toy(2))
  assert preprocessing(tmp_path)["exif"] is True
  assert restore(tmp_path, model=toy.Toy(2)).preprocessing.exif is True
  (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("data: ")]
  assert line == (
    f"data: 2 classes in {pictures}, images: train 16, validation 2, test 2; there is no train, validation or test "
    "folder, the parts are drawn by file name; passed over: 1 .txt"
  )
  run(experiment(toy, pictures, exif=True), tmp_path, model=toy.Toy(2))  # the same, in words
  before = toy.snapshot(tmp_path)
  with pytest.raises(
    UserError, match=r"other model or data \(data.metadata.preprocessing.exif: True there, 'absent' n"
  ):
    run(experiment(toy, pictures, exif=False), tmp_path, model=toy.Toy(2))
  assert toy.snapshot(tmp_path) == before


def test_a_run_that_was_recorded_without_the_setting_goes_on_without(toy, pictures, tmp_path):
  without = experiment(toy, pictures, exif=False)
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  run(without, whole, model=toy.Toy(2))

  class Stop(Exception):
    pass

  def interrupt():
    raise Stop

  with pytest.raises(Stop):
    run(without, parts, model=toy.Toy(2), task=toy.Interrupted(load_dataset(without), without).at(6, interrupt))
  config = json.loads((parts / files.CONFIG).read_text())
  del config["data"]["exif"]
  assert "exif" not in preprocessing(parts)
  files.write_json(parts / files.CONFIG, config)
  run(experiment(toy, pictures), parts, model=toy.Toy(2))
  assert toy.result(parts) == toy.result(whole) and toy.lines(parts) == toy.lines(whole)
  assert restore(parts, model=toy.Toy(2)).preprocessing.exif is False
  with pytest.raises(UserError, match=r"preprocessing.exif: 'absent' there, True now"):
    run(experiment(toy, pictures, exif=True), parts, model=toy.Toy(2))


@pytest.mark.parametrize("name", ["folder", "digits", "imagenet2012"])
def test_the_setting_then_the_record_then_the_kind_of_data_decide(name):
  def turns(recorded, exif):
    return files.turns_pictures_of(recorded, Data(name, exif=exif))

  assert [turns(None, exif) for exif in (None, True, False)] == [name == "folder", True, False]
  earlier = [{"preprocessing": {"exif": True}}, {"preprocessing": {"image_size": [6, 6]}}, {}]
  for metadata, wanted in zip(earlier, (True, False, False), strict=True):
    recorded = files.Recorded(Experiment(), {"data": {"metadata": metadata}})
    assert [turns(recorded, exif) for exif in (None, True, False)] == [wanted, True, False]


@pytest.mark.parametrize("exif", [None, False])
def test_a_new_run_from_other_weights_turns_unless_it_is_told_not_to(toy, pictures, tmp_path, monkeypatch, exif):
  class Loaded(Exception):
    pass

  def raise_it(settings, given):
    raise Loaded(load_dataset(settings, given).preprocessing)

  initial = Initial(Preprocessing(6, (0.5,) * 3, (0.2,) * 3), "", None)
  monkeypatch.setattr(runs, "find_initial", lambda experiment, folder: initial)
  monkeypatch.setattr(runs, "load_dataset", raise_it)
  with pytest.raises(Loaded) as loaded:
    run(experiment(toy, pictures, exif=exif), tmp_path / "run", model=toy.Toy(2))
  assert loaded.value.args[0] == dataclasses.replace(initial.preprocessing, exif=exif is None)


def test_turning_changes_what_is_seen(toy, pictures):
  batches = [
    ImageClassification(load_dataset(each), each).train_rows(0, slice(None))["image"]
    for each in (experiment(toy, pictures, exif=exif) for exif in (None, True, False))
  ]
  np.testing.assert_array_equal(batches[0], batches[1])
  assert (batches[0] != batches[2]).any()
