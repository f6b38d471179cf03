"""The page and the table of runs side by side say what the runs' files say."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from convattn.commands import main
from convattn.training.config import Experiment, Model
from convattn.training.workdir import Recorded, write_config
from convattn.viz import comparison_html, seed_band_figure
from convattn.viz.comparison import comparison_tables
from convattn.viz.seed_bands import seed_band


def write_run(folder, seed, accuracy, ended=True, **changes):
  folder.mkdir(parents=True)
  experiment = dataclasses.replace(Experiment(seed=seed, num_steps=4, model=Model("coatnet_mini_8")), **changes)
  write_config(folder, Recorded(experiment, {}))
  lines = [
    {"step": step, "train/loss": 2 / step, "validation/loss": 1 / step, "validation/accuracy": accuracy * step / 4}
    for step in (2, 4)
  ]
  (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  if ended:
    result = {"step": 4, "seconds": 9.0, "images_per_second": 1234.5, "state_sha256": "0123456789abcdef" * 4}
    (folder / "result.json").write_text(json.dumps({**result, "test/accuracy": accuracy, "test/loss": 0.5}))
  return folder


@pytest.fixture
def folders(tmp_path):
  return [
    write_run(tmp_path / "a<b>", 0, 0.5),
    write_run(tmp_path / "b|c", 1, 0.75),
    write_run(tmp_path / "c", 0, 0.625, batch_size=8),
    write_run(tmp_path / "d", 1, 0.25, ended=False, batch_size=8),
  ]


class Cells(HTMLParser):
  """Rows of cells of all tables; and whatever could load or run something."""

  def __init__(self):
    super().__init__()
    self.rows, self.active, self.inside = [], [], False

  def handle_starttag(self, tag, attributes):
    if tag == "tr":
      self.rows.append([])
    self.inside = tag in ("td", "th")
    if self.inside:
      self.rows[-1].append("")
    loads = [name for name, _ in attributes if name in ("src", "srcset") or name.startswith("on")]
    if loads or tag in ("script", "link", "iframe", "img", "object"):
      self.active.append(tag)

  def handle_endtag(self, tag):
    self.inside = self.inside and tag not in ("td", "th")

  def handle_data(self, data):
    if self.inside:
      self.rows[-1][-1] += data


def test_the_command_writes_a_page_and_a_table_beside_the_first_workdir(folders, tmp_path, capsys):
  assert main(["report", *map(str, folders)]) == 0
  page, table = tmp_path / "comparison.html", tmp_path / "comparison.md"
  assert capsys.readouterr().out == f"{page}\n{table}\n"
  found = Cells()
  found.feed(page.read_text())
  assert found.active == []
  assert "<svg" in page.read_text() and "</script" not in page.read_text()
  markdown = table.read_text()
  assert ["metric", "batch_size 64", "batch_size 8"] in found.rows
  assert ["runs that ended", "2", "1"] in found.rows
  # (0.5 + 0.75) / 2 and their sample deviation; and a single run
  assert ["test/accuracy, %", "62.50 ± 17.68", "62.50"] in found.rows
  assert ["images/s", "1,234 ± 0", "1,234"] in found.rows
  assert ["batch_size", "64", "8"] in found.rows
  assert [str(folders[3]), "batch_size 8", "1", "4 of 4", "not ended"] in found.rows
  assert [str(folders[0]), "batch_size 64", "0", "4", "0123456789ab"] in found.rows
  for row in found.rows:
    assert f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" in markdown.splitlines()
  assert f"Not ended: {folders[3]}." in markdown


def test_the_same_runs_give_the_same_bytes(folders, tmp_path):
  contents = []
  for _ in range(2):
    assert main(["report", *map(str, folders), f"--out={tmp_path / 'x.html'}"]) == 0
    contents.append([(tmp_path / name).read_bytes() for name in ("x.html", "x.md")])
  assert contents[0] == contents[1]


def test_tables_without_rows_are_left_out(tmp_path):
  from convattn.study.comparison import compare

  groups = compare([write_run(tmp_path / str(seed), seed, 0.5, ended=False) for seed in (0, 1)])
  assert [heading for heading, _ in comparison_tables(groups)] == ["Runs"]
  assert "<svg" in comparison_html(groups)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["a<b>", "nowhere"], "nowhere holds no run (config.json is missing): name a workdir."),
    (["a<b>", "a<b>"], "a<b> is given twice."),
    (["a<b>", "b|c", "--out=x.pdf"], "--out must end in .html, got 'x.pdf'"),
    (["a<b>", "b|c", "--out=nowhere/x.html"], "there is no folder 'nowhere'"),
    (["a<b>", "--out=x.html"], "--out is for a comparison: name two or more workdirs."),
    (["a<b>", "--workdir=c"], "--workdir=c or a<b>: name one way"),
  ],
)
def test_a_wrong_request_is_one_line_and_writes_nothing(folders, tmp_path, monkeypatch, capsys, arguments, message):
  monkeypatch.chdir(tmp_path)
  before = sorted(tmp_path.rglob("*"))
  assert main(["report", *arguments]) == 2
  out, err = capsys.readouterr()
  assert (out, err.count("\n")) == ("", 1)
  assert message in err
  assert sorted(tmp_path.rglob("*")) == before


def test_one_workdir_is_drawn_as_before(folders, capsys):
  assert main(["report", str(folders[2])]) == 0
  assert capsys.readouterr().out == f"{folders[2] / 'curves.png'}\n"


def curves(*values, steps=(1, 2, 3), metric="validation/accuracy"):
  return {metric: (np.array(steps), np.array(values))}


def test_a_line_is_the_mean_and_its_band_reaches_from_the_smallest_to_the_largest_run():
  runs = [curves(0.25, 0.5, 0.5), curves(0.75, 0.5, 1.0), curves(0.5, 0.875, 0.0)]
  figure = seed_band_figure({"a $x$": runs, "b": [curves(0.125, 0.25, 0.5)]})
  (axes,) = figure.axes
  first, second = axes.lines
  assert first.get_ydata() == pytest.approx([0.5, 0.625, 0.5])
  assert second.get_ydata() == pytest.approx([0.125, 0.25, 0.5])
  (band,) = axes.collections  # a single run has none
  corners = {(x, round(y, 6)) for x, y in band.get_paths()[0].vertices}
  assert {(1, 0.25), (1, 0.75), (2, 0.5), (2, 0.875), (3, 0), (3, 1)} <= corners
  assert [text.get_text() for text in figure.legends[0].get_texts()] == [r"a \$x\$ (3 seeds)", "b (1 seed)"]
  assert first.get_marker() != second.get_marker()


def test_runs_meet_at_the_steps_that_all_have_and_long_training_is_averaged():
  steps, values = seed_band([curves(1, 2, 3), curves(5, 6, steps=(2, 3))], "validation/accuracy")
  np.testing.assert_array_equal(steps, [2, 3])
  np.testing.assert_array_equal(values, [[2, 3], [5, 6]])
  long = np.arange(150.0)
  steps, values = seed_band([curves(*long, steps=long, metric="train/loss")], "train/loss")
  np.testing.assert_array_equal(steps, np.arange(2, 150, 3))
  np.testing.assert_array_equal(values[0], np.arange(1, 150, 3))
  with pytest.raises(ValueError, match="no run has the metric 'x'; they have validation/accuracy"):
    seed_band([curves(1, 2, 3)], "x")
  with pytest.raises(ValueError, match="no run has one of the metrics x; they have validation/accuracy"):
    seed_band_figure({"a": [curves(1, 2, 3)]}, ["x"])


def test_a_short_run_is_averaged_over_as_many_steps_as_the_longest():
  long, short = np.arange(1, 1201) * 10, np.arange(1, 101) * 10  # 60 points of 200 steps each
  groups = {name: [curves(*steps, steps=steps, metric="train/loss")] for name, steps in (("a", long), ("b", short))}
  first, second = seed_band_figure(groups, ["train/loss"]).axes[0].lines
  np.testing.assert_array_equal(first.get_xdata(), np.arange(1, 61) * 200)
  np.testing.assert_array_equal(second.get_xdata(), np.arange(1, 9) * 120)  # 12 neighbours: eight points remain
  between = np.arange(1, 601) * 10  # 10 neighbours alone, 20 beside the long one
  for window, each in ((0, 10), (200, 20)):
    steps, _ = seed_band([curves(*between, steps=between, metric="train/loss")], "train/loss", window)
    np.testing.assert_array_equal(np.diff(steps), each * 10)
  steps, _ = seed_band([curves(*short, steps=short, metric="validation/loss")], "validation/loss", 200)
  np.testing.assert_array_equal(steps, short)


def test_losses_are_logarithmic_and_accuracies_per_cent():
  runs = [{**curves(0.5, 0.25, 0.125, metric="validation/loss"), **curves(0.5, 0.75, 1.0)}]
  loss, accuracy = seed_band_figure({"a": runs}).axes
  assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")
  assert accuracy.get_ylim()[1] == 1
  assert re.fullmatch(r"75(\.0)?%", accuracy.yaxis.get_major_formatter()(0.75))
