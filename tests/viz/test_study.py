"""The figure of a study says what study.json says."""

import json

import numpy as np
import pytest

from convattn.errors import UserError
from convattn.viz import STUDY_FIGURE, draw, read_study, study_figure


def setting(name, group, found, difference=None, baseline="a"):
  mean = sum(found) / len(found) if found else None
  seeds = {str(seed): value for seed, value in enumerate(found)}
  return {"name": name, "group": group, "baseline": baseline, "test": {"seeds": seeds, "mean": mean},
          "difference": difference}  # fmt: skip


RESULT = {
  "title": "From $1 to $5",
  "finished": False,
  "runs": {"all": 12, "ended": 7},
  "settings": [
    setting("a", "first", [0.5, 0.625]),
    setting("b_$x$", "first", [0.75], {"mean": 0.125, "low": -0.25, "high": 0.5}),
    setting("c", "second", [], baseline="c"),
  ],
}


def drawn(axes):
  """{(xs, y of the first point)} of what is drawn."""
  lines = [(np.ravel(line.get_xdata()).tolist(), np.ravel(line.get_ydata()).tolist()) for line in axes.lines]
  return {(tuple(xs), ys[0]) for xs, ys in lines if xs}


def test_every_run_mean_and_interval_is_drawn_at_its_line():
  figure = study_figure(RESULT)
  accuracy, difference = figure.axes
  names = [label.get_text() for label in accuracy.get_yticklabels()]
  assert names == ["first", "a", "b_$x$", "second", "c"]
  weights = [label.get_fontweight() for label in accuracy.get_yticklabels()]
  assert weights == ["bold", "normal", "normal", "bold", "normal"]
  assert drawn(accuracy) == {((50.0, 62.5), 1), ((56.25, 56.25), 0.72), ((75.0,), 2), ((75.0, 75.0), 1.72)}
  zero = ((0, 0), 0)  # a stroke from top to bottom
  assert drawn(difference) == {((-25.0, 50.0), 2), ((12.5,), 2), ((0,), 1), ((0,), 4), zero}
  assert accuracy.get_ylim()[0] > accuracy.get_ylim()[1]  # from the top, as in the table
  assert figure.get_suptitle() == "From $1 to $5 (7 of 12 runs)"
  assert study_figure({**RESULT, "finished": True}).get_suptitle() == "From $1 to $5"


def test_a_folder_of_a_study_gets_its_figure(tmp_path):
  (tmp_path / "study.json").write_text(json.dumps(RESULT))
  assert draw(tmp_path) == [tmp_path / STUDY_FIGURE]
  before = (tmp_path / STUDY_FIGURE).read_bytes()
  assert draw(str(tmp_path)) == [tmp_path / STUDY_FIGURE]  # as `run` takes a workdir
  assert (tmp_path / STUDY_FIGURE).read_bytes() == before != b""


def test_one_that_has_only_begun_is_not_taken_for_a_run(tmp_path):
  (tmp_path / "plan.json").write_text("{}")
  with pytest.raises(FileNotFoundError, match="study.json is missing"):
    draw(tmp_path)


def test_what_is_no_study_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match="study.json is missing; give the command of the study"):
    read_study(tmp_path / "study.json")
  (tmp_path / "study.json").write_text("[]")
  with pytest.raises(UserError, match="is damaged .*; give the command of the study, which writes it anew"):
    read_study(tmp_path / "study.json")
  with pytest.raises(ValueError, match="this is not what a study writes: KeyError 'settings'"):
    study_figure({})
