"""The look of the figures: colours that are told apart, sizes on paper, and files that say the same each time."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from convattn.viz import style

ROOT = Path(__file__).resolve().parents[2]

# Machado, Oliveira & Fernandes 2009, table 1, severity 1: what each reader sees of linear red, green and blue.
SEEN_BY = {
  "all cones": np.eye(3),
  "no red cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  "no green cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
  "no blue cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour, seen_by):
  """CIELAB (D65) of a colour of sRGB as a reader sees it."""
  rgb = np.array(to_rgb(colour))
  linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
  xyz = TO_XYZ @ np.clip(np.array(seen_by) @ linear, 0, 1) / TO_XYZ.sum(1)
  f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
  return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def nearest_pair(colours, seen_by):
  return min(np.linalg.norm(lab(a, seen_by) - lab(b, seen_by)) for a, b in itertools.combinations(colours, 2))


@pytest.mark.parametrize("seen_by", SEEN_BY)
def test_colours_of_a_figure_are_told_apart_by_every_reader(seen_by):
  assert nearest_pair(style.CYCLE, SEEN_BY[seen_by]) > 11
  # What outlines a cell is neither a colour of the scales, nor like them to anybody.
  ends = [scale(place)[:3] for scale in (style.SEQUENTIAL, style.DIVERGING) for place in (0.0, 0.5, 1.0)]
  assert min(np.linalg.norm(lab(style.MARK, SEEN_BY[seen_by]) - lab(e, SEEN_BY[seen_by])) for e in ends) > 11


def test_red_and_green_are_not():
  assert nearest_pair(["#d62728", "#7f7f10"], SEEN_BY["no green cones"]) < 11


def test_marks_are_as_many_as_colours():
  assert len(set(style.MARKS)) == len(set(style.CYCLE)) == len(style.MARKS)


def lightness(colours, alpha_over=1.0):
  """Of a scale of colours on white paper, from end to end."""
  values = colours(np.linspace(0, 1, 65))
  on_paper = values[:, :3] * values[:, 3:] + alpha_over * (1 - values[:, 3:])
  return np.array([lab(each, np.eye(3))[0] for each in on_paper])


def test_scales_of_colours_grow_darker_all_the_way_from_zero():
  assert (np.diff(lightness(style.SEQUENTIAL)) < 0).all()
  both = lightness(style.DIVERGING)
  assert (np.diff(both[:33]) > 0).all() and (np.diff(both[32:]) < 0).all()
  assert both[32] == pytest.approx(100, abs=0.1)
  assert max(style.SEQUENTIAL(0.0)[3], style.DIVERGING(0.5)[3]) < 0.01  # the picture is seen through nothing


def test_the_scale_of_numbers_starts_at_zero_or_lies_about_it():
  colours, norm = style.scale(np.array([0.25, np.nan, 0.5]))
  assert (colours.name, norm.vmin, norm.vmax) == (style.SEQUENTIAL.name, 0, 0.5)
  colours, norm = style.scale(np.array([0.25, -np.inf, -0.75]))
  assert (colours.name, norm.vmin, norm.vmax) == (style.DIVERGING.name, -0.75, 0.75)
  for nothing in ([], [np.nan], [0.0]):
    assert style.scale(np.array(nothing))[1].vmax == 1


def sample(width=84.0, height=40.0):
  with style.paper():
    figure = style.sheet(width, height)
    axes = figure.subplots()
    style.panel(axes, "a title: $x$ é", "step", "loss")
    axes.plot([1, 2, 3], [3, 1, 2], marker="o")
  return figure


def test_a_sheet_has_its_size_in_millimetres():
  box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", style.file_bytes(sample()))
  assert [float(each) / 72 * 25.4 for each in box.groups()] == pytest.approx([84, 40], abs=0.01)
  with pytest.raises(ValueError, match="wider and higher than 0 mm, got -3 x 40 mm"):
    style.sheet(-3, 40)


def test_letters_in_a_pdf_are_truetype_fonts_that_are_in_it():
  content = style.file_bytes(sample())
  assert b"/FontFile2" in content and b"/CIDFontType2" in content
  assert b"/Type3" not in content
  with matplotlib.rc_context({"pdf.fonttype": 3}):
    assert style.file_bytes(sample()) == content  # whatever is set


def test_the_same_figure_has_the_same_bytes_in_every_process():
  files = {kind: style.file_bytes(sample(), kind, about="what it is") for kind in ("pdf", "svg", "png")}
  code = (
    "import sys; sys.path.insert(0, sys.argv[1]); from test_style import sample, style; import hashlib\n"
    "for kind in ('pdf', 'svg', 'png'):\n"
    "  print(hashlib.sha256(style.file_bytes(sample(), kind, about='what it is')).hexdigest())"
  )
  elsewhere = {**os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "PYTHONPATH": str(ROOT)}
  command = [sys.executable, "-c", code, str(Path(__file__).parent)]
  done = subprocess.run(command, check=True, cwd=ROOT, env=elsewhere, capture_output=True, text=True)
  import hashlib

  assert done.stdout.split() == [hashlib.sha256(content).hexdigest() for content in files.values()]
  assert b"what it is" in files["pdf"] and b"what it is" in files["svg"]
  assert style.file_bytes(sample(85.0)) != files["pdf"]


def test_a_matplotlibrc_changes_nothing_and_is_not_changed():
  before = style.file_bytes(sample(), "png")
  with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.bbox": "tight"}):
    assert style.file_bytes(sample(), "png") == before
    assert matplotlib.rcParams["font.size"] == 20
