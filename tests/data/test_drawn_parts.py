"""A class folder without parts: which picture is for what is a function of its name."""

import os
from pathlib import Path

import numpy as np
import pytest

from convattn.data import load
from convattn.data.drawn_parts import draw_parts, share
from convattn.errors import UserError

ROOT = Path("/some/where")


def named(**counts):
  return {name: [f"{ROOT}/{name}/{i}.jpg" for i in range(count)] for name, count in counts.items()}


def flat(parts):
  return {file: split for split, classes in parts.items() for files in classes.values() for file in files}


def fill(root, **counts):
  for name, count in counts.items():
    (root / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
      (root / name / f"{i}.jpg").write_text("")


def test_shares_stay_what_they_are_in_every_version():
  """Another function would move pictures from one part to another between two runs."""
  names = ("cat/1.jpg", "dog/deep/2.png", "cat/é.jpg", "cat/\udcff.jpg")
  assert [round(share(name), 6) for name in names] == [0.387848, 0.134437, 0.498179, 0.413667]


def test_every_picture_is_in_one_part_and_a_tenth_in_each_that_is_held_out():
  found = named(cat=1500, dog=900, eel=60)
  parts = draw_parts(ROOT, found)
  assert sorted(flat(parts)) == sorted(file for files in found.values() for file in files)
  assert all(files == sorted(files) for classes in parts.values() for files in classes.values())
  for split in ("validation", "test"):
    sizes = {name: len(files) for name, files in parts[split].items()}
    for name, files in found.items():  # within four standard deviations of a binomial number
      assert abs(sizes[name] - len(files) / 10) < 4 * (len(files) * 0.09) ** 0.5, (split, name)


def test_what_is_added_or_removed_moves_no_other():
  rng, before = np.random.default_rng(0), named(cat=300, dog=200)
  fewer = {name: [files[i] for i in sorted(rng.permutation(len(files))[:90])] for name, files in before.items()}
  more = {**named(cat=400, dog=200, ant=50)}
  parts = flat(draw_parts(ROOT, before))
  for others in (fewer, more):
    its = flat(draw_parts(ROOT, others))
    assert all(its[file] == parts[file] for file in its.keys() & parts.keys())
  moved = {name: [file.replace(str(ROOT), "/else") for file in files] for name, files in before.items()}
  assert {
    file.replace("/else", str(ROOT)): split for file, split in flat(draw_parts(Path("/else"), moved)).items()
  } == parts


@pytest.mark.parametrize("count", range(2, 40))
def test_no_part_is_empty_and_every_class_is_trained_on(count):
  """However the few fall: a class of one, and others whose names change with `count`."""
  found = {**named(one=1), f"many{count}": [f"{ROOT}/many{count}/{i}.jpg" for i in range(count + 1)]}
  parts = draw_parts(ROOT, found)
  assert set(parts["train"]) == set(found)
  assert all(parts[split] for split in parts)
  assert len(flat(parts)) == count + 2


def test_pictures_that_all_fall_below_a_bound_still_make_three_parts():
  low = [name for name in (f"{ROOT}/cat/{i}.jpg" for i in range(400)) if share(name[len(str(ROOT)) + 1 :]) < 0.1][:4]
  assert len(low) == 4
  parts = draw_parts(ROOT, {"cat": low})
  assert {split: len(classes["cat"]) for split, classes in parts.items()} == {"train": 1, "validation": 1, "test": 2}


def test_too_few_are_one_line():
  few = {
    "1 picture in 1 class folder": named(cat=1),
    "2 pictures in 1 class folder": named(cat=2),
    "4 pictures in 3 class folders": named(cat=2, dog=1, eel=1),
  }
  for told, found in few.items():
    with pytest.raises(ValueError, match=f"/some/where has {told}, too few to .* add some, or"):
      draw_parts(ROOT, found)
  draw_parts(ROOT, named(cat=3))


def test_a_folder_of_class_folders_is_loaded_in_parts_and_says_so(tmp_path):
  fill(tmp_path, cat=30, dog=20)
  (tmp_path / "labels.csv").write_text("")
  (tmp_path / "dog" / "deep").mkdir()
  (tmp_path / "dog" / "0.jpg").rename(tmp_path / "dog" / "deep" / "0.jpg")
  dataset = load("folder", str(tmp_path))
  assert dataset.class_names == ("cat", "dog")
  assert dataset.remarks == (
    "there is no train, validation or test folder, the parts are drawn by file name",
    "passed over: 1 .csv",
  )
  parts = {split: {os.path.relpath(file, tmp_path) for file in getattr(dataset, split).files} for split in SPLITS}
  assert {name for name in set.union(*parts.values()) if share(name) < 0.1} == parts["test"]
  assert sum(map(len, parts.values())) == 50 and all(parts.values())
  for split in SPLITS:
    source = getattr(dataset, split)
    assert [dataset.class_names[label] for label in source.labels] == [
      Path(file).relative_to(tmp_path).parts[0] for file in source.files
    ]


SPLITS = ("train", "validation", "test")


def test_folders_that_hold_folders_alone_are_told_of(tmp_path):
  for part in ("images_a", "images_b"):
    fill(tmp_path / part, cat=9, dog=9)
  assert "no class folder holds a picture itself (parts would be" in load("folder", str(tmp_path)).remarks[1]


def test_classes_that_a_drawn_part_has_nothing_of_are_refused(tmp_path):
  fill(tmp_path, cat=3, dog=40)
  with pytest.raises(UserError, match="^classes is '0', of which the .* part of 'folder' has no images; choose more"):
    load("folder", str(tmp_path), classes="0")


@pytest.mark.parametrize("name", ["Train", "VAL", "training", "Testing"])
def test_a_part_that_is_called_otherwise_is_not_taken_for_a_class(tmp_path, name):
  fill(tmp_path / name, cat=5, dog=5)
  with pytest.raises(ValueError, match=f"{tmp_path}/{name} holds folders, as a part would; call the parts train, "):
    load("folder", str(tmp_path))
  (tmp_path / name).rename(tmp_path / "heron")
  assert load("folder", str(tmp_path)).class_names == ("heron",)


def test_a_class_of_such_a_name_is_one_where_pictures_lie_in_it(tmp_path):
  fill(tmp_path, Train=5, Bus=5)
  assert load("folder", str(tmp_path)).class_names == ("Bus", "Train")
  fill(tmp_path, train=5)
  with pytest.raises(ValueError, match="/train makes .* or call train otherwise if it is a class.$"):
    load("folder", str(tmp_path))
