"""Class names that a folder can have, and figures that cannot be drawn."""

import json

import numpy as np
import pytest

from convattn.viz import confusion_figure, draw, fonts
from convattn.viz.confusion import missing_letters

ODD = ("from $1_to_$5", "$\\frac{", "a\nb\tc", "\udcff\udcfe", "", "  ", "\u202eabc", "a_^{}<>&", "שלום")
SHOWN = ["from $1_to_$5", "$\\frac{", "a\\nb\\tc", "\\xff\\xfe", "''", "'  '", "\\u202eabc", "a_^{}<>&", "שלום"]


def written(workdir, names):
  (workdir / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.5}\n')
  counts = np.eye(len(names), dtype=int).tolist()
  (workdir / "confusion.json").write_text(json.dumps({"class_names": names, "counts": counts}))
  return workdir


def test_any_name_is_drawn_as_it_is(tmp_path):
  notes = []
  assert len(draw(written(tmp_path, ODD), notes.append, notes.append)) == 2
  assert notes == []
  axes = confusion_figure(np.eye(len(ODD), dtype=int), ODD).axes[0]
  assert [label.get_text() for label in axes.get_yticklabels()] == SHOWN


def test_long_names_leave_room_for_the_cells(tmp_path):
  assert len(draw(written(tmp_path, ["W" * 250, "W" * 251]))) == 2


def test_letters_that_no_font_has_are_said_in_one_line(tmp_path, monkeypatch):
  assert missing_letters(["caf\u00e9"]) == ""
  notes = []
  assert len(draw(written(tmp_path, ["\uffff".replace("\uffff", "\U00012000"), "b"]), notes.append, notes.append)) == 2
  assert len(notes) == 1
  assert notes[0].startswith("confusion.png has boxes for \U00012000")


def test_a_font_that_has_the_letter_is_taken(monkeypatch):
  monkeypatch.setattr(fonts, "_upright", lambda: [("none", "none"), ("Noto", "noto"), ("Other", "noto")])
  monkeypatch.setattr(fonts, "letters", lambda path: frozenset("b" if path == "noto" else "a"))
  assert fonts.families(["ab", "c"])[0][1:] == ["Noto"]
  assert fonts.families(["ab", "c"])[1] == "c"


def test_a_figure_that_fails_is_named_and_the_other_is_drawn(tmp_path, monkeypatch):
  def failing(path):
    raise RuntimeError("no\nroom")

  monkeypatch.setattr("convattn.viz.report.read_curves", failing)
  notes = []
  assert draw(written(tmp_path, ["a", "b"]), notes.append, notes.append) == [tmp_path / "confusion.png"]
  assert notes == ["curves.png could not be drawn: RuntimeError: no room"]
  with pytest.raises(RuntimeError):
    draw(tmp_path)
