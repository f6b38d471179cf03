"""The figure of the most confident mistakes shows what the file says."""

import dataclasses
import json

import numpy as np
import pytest

from convattn.training.records import as_json
from convattn.viz import Mistakes, draw, mistakes_figure, read_mistakes

DRAWS = np.random.default_rng(0)


def mistakes(count, shape=(5, 7, 3), names=("cat", "dog", "owl")):
  true = np.arange(count) % len(names)
  pictures = DRAWS.integers(0, 256, (count, *shape)).astype(np.uint8)
  return Mistakes(np.linspace(0.99996, 0.5, count), true, (true + 1) % len(names), pictures, names)


def filled(figure):
  return [axes for axes in figure.axes if axes.axison]


def test_each_has_its_picture_its_class_what_it_was_taken_for_and_how_surely():
  found = mistakes(5)
  figure = mistakes_figure(found, 5, 360)
  assert figure.get_suptitle().startswith("5 mistakes in 360 test images\n")
  tiles = filled(figure)
  assert [axes.get_xlabel() for axes in tiles] == [
    "cat\nas dog\n>99.9%", "dog\nas owl\n87.5%", "owl\nas cat\n75.0%", "cat\nas dog\n62.5%", "dog\nas owl\n50.0%",
  ]  # fmt: skip
  for axes, picture in zip(tiles, found.pictures, strict=True):
    np.testing.assert_array_equal(axes.images[0].get_array(), picture)


def test_the_title_says_of_how_many():
  assert mistakes_figure(mistakes(16), 1234, 10_000).get_suptitle().startswith(
    "the 16 most confident of 1,234 mistakes in 10,000 test images\n"
  )  # fmt: skip
  assert mistakes_figure(mistakes(1), 1, 9).get_suptitle().startswith("1 mistake in 9 test images\n")
  assert mistakes_figure(mistakes(1)).get_suptitle().startswith("1 mistake\n")
  none = mistakes_figure(mistakes(0), 0, 360)
  assert none.get_suptitle() == "none of 360 test images is taken for another class" and not none.axes


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_of_other_channels_than_rgb_the_mean_is_grey(channels):
  found = mistakes(2, (6, 4, channels))
  for axes, picture in zip(filled(mistakes_figure(found)), found.pictures, strict=True):
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shown, picture if channels == 3 else picture.astype(float).mean(-1))
    assert axes.images[0].get_clim() == (0, 255)


@pytest.mark.parametrize("shape", [(1, 40, 2), (40, 1, 2)])
def test_a_picture_of_one_row_is_a_curve_for_each_channel(shape):
  found = mistakes(3, shape)
  for axes, picture in zip(filled(mistakes_figure(found)), found.pictures, strict=True):
    assert not axes.images
    for channel, line in enumerate(axes.lines):
      np.testing.assert_array_equal(line.get_ydata(), picture[..., channel].ravel())
    assert len(axes.lines) == 2


def test_flat_pictures_are_stretched_and_others_are_not():
  aspects = [filled(mistakes_figure(mistakes(1, shape)))[0].get_aspect() for shape in ((2, 40, 1), (20, 40, 1))]
  assert aspects == ["auto", 1.0]


def test_of_many_classes_with_long_names_each_name_is_another():
  names = tuple(f"a class with a very long name {i}" for i in range(1000))
  texts = [axes.get_xlabel() for axes in filled(mistakes_figure(mistakes(16, names=names)))]
  assert len(set(texts)) == 16
  assert all(len(line) <= 24 for text in texts for line in text.splitlines())


def content(found):
  lists = {"score": found.probability, "true": found.true, "predicted": found.predicted}
  plain = {name: values.tolist() for name, values in lists.items()}
  return {**plain, "class_names": list(found.class_names), "pictures": as_json(found.pictures)}


def test_the_file_is_read_back_and_drawn_without_the_data(tmp_path):
  path = tmp_path / "mistakes.json"
  found = mistakes(5)
  path.write_text(json.dumps(content(found)))
  for field in dataclasses.fields(Mistakes):
    np.testing.assert_array_equal(getattr(read_mistakes(path), field.name), getattr(found, field.name))
  (tmp_path / "metrics.jsonl").write_text('{"step": 2, "train/loss": 1.5}\n')
  assert draw(tmp_path) == [tmp_path / "curves.png", tmp_path / "mistakes.png"]
  first = (tmp_path / "mistakes.png").read_bytes()
  (tmp_path / "confusion.json").write_text(json.dumps({"class_names": "abc", "counts": np.ones((3, 3), int).tolist()}))
  draw(tmp_path)
  assert (tmp_path / "mistakes.png").read_bytes() != first  # it knows of how many now


@pytest.mark.parametrize(
  "change",
  [
    {"true": [0, 1, 2, 0, 3]},
    {"predicted": [0, 1]},
    {"pictures": {"shape": [5], "base64": "!"}},
    {"class_names": None},
  ],
)
def test_a_file_of_something_else_is_refused(tmp_path, change):
  path = tmp_path / "mistakes.json"
  path.write_text(json.dumps(content(mistakes(5)) | change))
  with pytest.raises(ValueError, match="does not hold mistakes and their pictures"):
    read_mistakes(path)
  path.write_text("{")
  with pytest.raises(ValueError, match="does not hold mistakes and their pictures"):
    read_mistakes(path)


def test_names_with_letters_that_no_font_has_are_told(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"step": 2, "train/loss": 1.5}\n')
  path = tmp_path / "mistakes.json"
  path.write_text(json.dumps(content(mistakes(2, names=("\U00012000", "$a_$")))))
  notes = []
  assert draw(tmp_path, note=notes.append)[-1] == tmp_path / "mistakes.png"
  assert len(notes) == 1 and notes[0].startswith("mistakes.png has boxes for \U00012000")
