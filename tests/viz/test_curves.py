"""Curves say what the file says."""

import json

import numpy as np
import pytest

from convattn.viz import curves_figure, read_curves

LINES = [
  {"step": 2, "train/loss": 2.0, "train/accuracy": 0.25, "train/learning_rate": 1e-3, "seconds": 1.0},
  {"step": 3, "validation/loss": 1.5, "validation/accuracy": 0.5, "validation/count": 7},
  {"step": 4, "train/loss": None, "train/accuracy": 0.75, "train/learning_rate": 5e-4, "seconds": 2.0},
  {"step": 6, "validation/loss": 1.25, "validation/accuracy": 0.875, "test/loss": 1.0, "test/accuracy": 0.9},
]


@pytest.fixture
def path(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
  return path


def test_every_number_is_read_at_its_step(path):
  curves = read_curves(path)
  for name in ("train/loss", "train/learning_rate", "validation/accuracy", "test/accuracy", "seconds"):
    steps, values = curves[name]
    expected = [(line["step"], line[name]) for line in LINES if name in line]
    np.testing.assert_array_equal(steps, [step for step, _ in expected])
    np.testing.assert_array_equal(values, [np.nan if value is None else value for _, value in expected])


def test_what_is_drawn_is_what_was_read(path):
  curves = read_curves(path)
  figure = curves_figure(curves)
  loss, accuracy, rate = figure.axes
  drawn = {
    (axes.get_title("left"), line.get_label().split(":")[0]): line.get_xydata()
    for axes in (loss, accuracy)
    for line in axes.lines
  }
  assert set(drawn) == {(metric, split) for metric in ("loss", "accuracy") for split in ("train", "validation", "test")}
  for (metric, split), points in drawn.items():
    np.testing.assert_array_equal(points, np.stack(curves[f"{split}/{metric}"], axis=-1))
  np.testing.assert_array_equal(rate.lines[0].get_xydata(), np.stack(curves["train/learning_rate"], axis=-1))
  assert all(axes.get_xlabel() == "step" for axes in figure.axes)


def test_the_key_gives_the_last_accuracies(path):
  (key,) = curves_figure(read_curves(path)).legends
  assert [text.get_text() for text in key.get_texts()] == ["train: 75.00%", "validation: 87.50%", "test: 90.00%"]


def test_no_point_lies_outside_its_panel(path):
  for axes in curves_figure(read_curves(path)).axes:
    low, high = axes.get_ylim()
    for line in axes.lines:
      values = np.asarray(line.get_ydata())
      assert np.all((values[np.isfinite(values)] >= low) & (values[np.isfinite(values)] <= high))


@pytest.mark.parametrize("names", [(), ("train/loss",), ("train/accuracy",), ("validation_ema/loss",)])
def test_metrics_may_be_missing(names):
  figure = curves_figure({name: (np.array([1, 2]), np.array([0.5, 0.25])) for name in names})
  assert sum(len(axes.lines) for axes in figure.axes) == len(names)


def test_a_half_written_last_line_is_not_read(path):
  with path.open("a") as file:
    file.write('{"step": 7, "train/lo')
  assert read_curves(path)["train/loss"][0].max() == 4


def test_a_missing_or_empty_file_is_one_line(tmp_path):
  path = tmp_path / "metrics.jsonl"
  for content in (None, "", '{"step": 1'):
    if content is not None:
      path.write_text(content)
    with pytest.raises(
      FileNotFoundError, match=r"metrics.jsonl is missing or empty; train into this directory first.$"
    ):
      read_curves(path)


@pytest.mark.parametrize("content", ["no json\n", "[1]\n", '{"train/loss": 1}\n', '{"step": 1, "train/loss": {}}\n'])
def test_a_file_of_something_else_is_refused(tmp_path, content):
  path = tmp_path / "metrics.jsonl"
  path.write_text(content)
  with pytest.raises(ValueError, match=r"line 1 of .*metrics.jsonl is damaged"):
    read_curves(path)
