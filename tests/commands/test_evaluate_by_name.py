"""The evaluate command on data of other classes than the model's: by name, never by number where there are names."""

import json
import shutil
from types import SimpleNamespace

import PIL.Image
import pytest

from convattn import training
from convattn.commands.data_of_model import data_of
from convattn.data import load
from convattn.inference.matching import Matched, matching
from convattn.pretrained import Preprocessing
from convattn.training.config import Data, Experiment


@pytest.mark.parametrize(
  ("ours", "theirs", "numbers", "missing", "extra"),
  [
    ("abc", "abc", [0, 1, 2], "", ""),
    ("abc", "bcz", [1, 2, -1], "a", "z"),
    ("abc", "cb", [2, 1], "a", ""),
    ("ab", "0ab", [-1, 0, 1], "", "0"),
    (("tench", "goldfish"), ("n01440764", "n01443537"), [0, 1], (), ()),
    (("n01443537", "x"), ("goldfish",), [0], ("x",), ()),
    (("crane", "crane"), ("crane", "crane"), [0, 1], (), ()),
  ],
)
def test_names_decide(ours, theirs, numbers, missing, extra):
  assert matching(tuple(ours), tuple(theirs)) == (numbers, Matched(tuple(missing), tuple(extra)))


def test_numbers_decide_only_where_the_names_of_one_side_are_numbers():
  numbers, matched = matching(("a", "b"), ("class_0", "class_1"))
  assert numbers == [0, 1]
  assert matched.notes() == [
    "classes are compared by their number, but named differently: class 0 is 'a' to the model, 'class_0' in the data"
  ]
  assert matching(("a", "b"), ("c", "d"))[0] is None
  assert matching(("a", "b"), ("0", "1", "2"))[0] is None


@pytest.fixture
def pictures(digits_run, tmp_path):
  """Four test pictures of each of three digits, in folders."""
  digits = load("digits", str(digits_run.parent / "data"))
  for label in (3, 5, 7):
    for split in ("train", "validation"):
      (tmp_path / split / str(label)).mkdir(parents=True)
    for i in [i for i in range(360) if digits.test[i]["label"] == label][:4]:
      PIL.Image.fromarray(digits.test[i]["image"][..., 0]).save(tmp_path / "validation" / str(label) / f"{i}.png")
    shutil.copy(tmp_path / "validation" / str(label) / f"{i}.png", tmp_path / "train" / str(label))
  return tmp_path


def test_fewer_classes_and_others_are_named_on_the_screen_and_in_the_file(digits_run, pictures, call, tmp_path):
  options = ["--config.data.name=folder", f"--config.data.dir={pictures}", f"--out={tmp_path / 'a.json'}"]
  status, out, _ = call("evaluate", f"--checkpoint={digits_run}", *options)
  assert status == 0
  whole = json.loads((tmp_path / "a.json").read_text())
  assert [row["images"] for row in whole["classes"]] == [0, 0, 0, 4, 0, 4, 0, 4, 0, 0]
  assert whole["missing_classes"] == [*"0124689"]
  note = "the data lack the classes '0', '1', '2' and 4 more of the model; the others are matched by name"
  notes = [note, "there is no test folder, validation stands in"]
  assert whole["notes"] == notes
  assert [line for line in out.splitlines() if line.startswith("note: ")] == [f"note: {each}" for each in notes]
  for split in ("train", "validation"):
    (pictures / split / "7").rename(pictures / split / "from $1_to_$5")
  status, out, _ = call("evaluate", f"--checkpoint={digits_run}", *options)
  assert status == 0
  found = json.loads((tmp_path / "a.json").read_text())
  assert [row["images"] for row in found["classes"]] == [0, 0, 0, 4, 0, 4, 0, 0, 0, 0]
  assert found["confusion"][3] == whole["confusion"][3]
  assert found["left_out_classes"] == ["from $1_to_$5"]
  assert "the model does not know the class 'from $1_to_$5' of the data; images of such are left out" in out


def test_a_class_folder_without_parts_is_scored_on_the_part_that_is_drawn(digits_run, pictures, call, tmp_path):
  shutil.rmtree(pictures / "train")
  (pictures / "validation").rename(pictures / "all")
  options = [f"--checkpoint={digits_run}", "--config.data.name=folder", f"--config.data.dir={pictures / 'all'}"]
  status, out, _ = call("evaluate", *options, f"--out={tmp_path / 'a.json'}")
  assert status == 0
  assert "note: there is no train, validation or test folder, the parts are drawn by file name" in out.splitlines()
  found = json.loads((tmp_path / "a.json").read_text())
  assert found["images"] == len(load("folder", str(pictures / "all")).test) < 12


def test_pictures_are_turned_where_the_model_was_trained_so(digits_run, edited, pictures, call, tmp_path):
  """To score and to predict, files that say they are upside down are to such a model what upright ones are to any."""
  stored = training.restore(digits_run).preprocessing.as_json()
  turning, exif = edited(preprocessing={**stored, "exif": True}), PIL.Image.Exif()
  data = ["--config.data.name=folder", f"--config.data.dir={pictures}", f"--out={tmp_path / 'a.json'}"]
  found = []
  for checkpoint in (digits_run, turning):
    status, _, _ = call("evaluate", f"--checkpoint={checkpoint}", *data)
    assert status == 0
    scores = json.loads((tmp_path / "a.json").read_text())
    status, out, _ = call("predict", f"--checkpoint={checkpoint}", pictures / "validation")
    assert status == 0
    found.append((scores["loss"], scores["confusion"], out))
    assert scores["data"]["exif"] is (checkpoint == turning)
    exif[0x0112] = 3
    for path in (pictures / "validation").rglob("*.png"):
      with PIL.Image.open(path) as picture:
        picture.rotate(180).save(path, exif=exif)
  assert found[0] == found[1]


@pytest.mark.parametrize("run", [None, Experiment(data=Data(exif=None)), Experiment(data=Data(exif=True))])
@pytest.mark.parametrize("turning", [False, True])
def test_whether_pictures_are_turned_goes_by_the_model_unless_it_is_said(run, turning):
  preprocessing = Preprocessing(6, (0.5,), (0.5,), exif=turning)
  restored = SimpleNamespace(experiment=run, task_passed=False, preprocessing=preprocessing)
  for said, wanted in ((None, turning), ("true", True), ("false", False)):
    overrides = [("data.name", "folder"), *([("data.exif", said)] if said else [])]
    assert data_of(restored, overrides).exif is wanted


def test_no_common_name_is_one_line(digits_run, pictures, refusal):
  for split in ("train", "validation"):
    for label in (3, 5, 7):
      (pictures / split / str(label)).rename(pictures / split / f"digit {label}")
  line, _ = refusal(
    "evaluate", f"--checkpoint={digits_run}", "--config.data.name=folder", f"--config.data.dir={pictures}"
  )
  assert "has 10 classes ('0', '1', '2' ...), but the data have 3 classes ('digit 3'" in line
