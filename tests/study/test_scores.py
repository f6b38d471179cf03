"""The score of a run on the disk."""

import dataclasses

import numpy as np
import pytest

from convattn.errors import UserError
from convattn.study.plan import Run
from convattn.study.scores import Score, read_score, write_score
from convattn.training.workdir import read_json, write_json

RUN = Run("wide", 3)


def test_a_score_is_read_back(tmp_path):
  assert read_score(tmp_path, RUN) is None
  right = np.random.default_rng(0).random(61) < 0.8
  tested = Score({"train": 0.5, "test": right.mean()}, {"train": 30, "test": 61}, right, 2.5, "abc")
  tuned = Score({"validation": 0.25}, {"validation": 4}, None, 1.5, "abc")
  diverged = Score({}, {}, None, 0, "", "x")
  for run, scored in ((RUN, tested), (Run("wide", 1000, 0.1), tuned), (Run("wide", 4), diverged)):
    write_score(tmp_path, run, scored)
    for field in dataclasses.fields(Score):
      np.testing.assert_array_equal(getattr(read_score(tmp_path, run), field.name), getattr(scored, field.name))


def test_of_a_file_with_any_byte_changed_or_cut_off_it_says_so(tmp_path):
  right = np.random.default_rng(0).random(61) < 0.8
  write_score(tmp_path, RUN, Score({"train": 0.5, "test": 0.75}, {"train": 30, "test": 61}, right, 2.5, "abc"))
  path = tmp_path / "scores" / "wide" / "seed_3.npz"
  whole, refusals = path.read_bytes(), []
  changed = [whole[:i] + bytes([byte ^ 255]) + whole[i + 1 :] for i, byte in enumerate(whole)]
  for content in (*changed, *(whole[:i] for i in range(len(whole)))):
    path.write_bytes(content)
    try:
      np.testing.assert_array_equal(read_score(tmp_path, RUN).correct, right)  # a byte that nothing depends on
    except UserError as error:
      refusals.append(str(error))
  assert len(refusals) > len(whole)  # each that is cut off, and others
  assert all("seed_3.json or the .npz beside it is damaged" in each and "\n" not in each for each in refusals)


@pytest.mark.parametrize("change", [{"images": {"train": 30, "test": 60}}, {"accuracy": None}, {"more": 1}])
def test_one_of_other_fields_is_refused(tmp_path, change):
  right = np.ones(61, bool)
  write_score(tmp_path, RUN, Score({"train": 0.5, "test": 1.0}, {"train": 30, "test": 61}, right, 2.5, "abc"))
  path = tmp_path / "scores" / "wide" / "seed_3.json"
  write_json(path, read_json(path) | change)
  with pytest.raises(UserError, match=r"is damaged .*; delete .*seed_3.json: the run is then scored anew"):
    read_score(tmp_path, RUN)
  path.write_bytes(b"[]")
  with pytest.raises(UserError, match="is damaged"):
    read_score(tmp_path, RUN)
