"""The evaluate command on data of other classes than the model's: by name, never by number where there are names."""

import json
import shutil

import PIL.Image
import pytest

from convattn.data import load
from convattn.inference.matching import Matched, matching


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
  assert whole["notes"] == [note]
  assert f"note: {note}" in out.splitlines()
  for split in ("train", "validation"):
    (pictures / split / "7").rename(pictures / split / "from $1_to_$5")
  status, out, _ = call("evaluate", f"--checkpoint={digits_run}", *options)
  assert status == 0
  found = json.loads((tmp_path / "a.json").read_text())
  assert [row["images"] for row in found["classes"]] == [0, 0, 0, 4, 0, 4, 0, 0, 0, 0]
  assert found["confusion"][3] == whole["confusion"][3]
  assert found["left_out_classes"] == ["from $1_to_$5"]
  assert "the model does not know the class 'from $1_to_$5' of the data; images of such are left out" in out


def test_no_common_name_is_one_line(digits_run, pictures, refusal):
  for split in ("train", "validation"):
    for label in (3, 5, 7):
      (pictures / split / str(label)).rename(pictures / split / f"digit {label}")
  line, _ = refusal(
    "evaluate", f"--checkpoint={digits_run}", "--config.data.name=folder", f"--config.data.dir={pictures}"
  )
  assert "has 10 classes ('0', '1', '2' ...), but the data have 3 classes ('digit 3'" in line
