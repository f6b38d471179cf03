"""examples/convolution_stages.py: its table and its figure are of the runs that it is given."""

import dataclasses
import pathlib
import runpy

import numpy as np
import pytest

from convattn.analysis import AttentionMap, Grid, head_report
from convattn.models import Run, Spec, Stage, variants
from convattn.training import run
from convattn.training.config import Checkpoint, Experiment, Model

EXAMPLE = pathlib.Path(__file__).parent.parent / "examples" / "convolution_stages.py"
TINY = Spec((Stage((Run("C", 1, 8),), 1), Stage((Run("T", 1, 8),), 2)), (4, 4), stem_stride=1, head_size=4)


@pytest.fixture(scope="module")
def stages():
  return runpy.run_path(str(EXAMPLE), run_name="stages")


def shifted(grid, down, across, share=1.0):
  """Weights of one head [2, 1, q, k] that has `share` of its weight on one shift, and the rest on all keys alike."""
  rows, columns = np.divmod(np.arange(grid.cells), grid.width)
  wanted = (rows + down) * grid.width + columns + across
  inside = (rows + down >= 0) & (rows + down < grid.height) & (columns + across >= 0) & (columns + across < grid.width)
  weights = np.full((grid.cells, grid.cells), 1 / grid.cells)
  there = np.eye(grid.cells)[np.where(inside, wanted, 0)] * inside[:, None] + weights * ~inside[:, None]
  return np.tile((share * there + (1 - share) * weights).astype(np.float32), (2, 1, 1, 1))


def test_the_table_tells_a_convolution_from_a_head_that_sees_all_alike(stages):
  grid = Grid(4, 5, image=(4, 5))
  measured = stages["Measured"]
  spreads = {"position": np.array([2.0]), "content": np.array([0.0])}
  convolutions = [
    measured(head_report([AttentionMap("stage_1/attention", grid, grid, shifted(grid, *shift))]), spreads)
    for shift in ((0, 1), (1, 0))
  ]
  alike = [
    measured([dataclasses.replace(stages["alike"](convolutions[0].reports[0]), layer="stage_1/attention")], spreads)
  ]
  head, _, first, second, last = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in stages["table"]({"trained": convolutions, "untrained": alike}).splitlines()
  ]
  assert head[2:5] == ["most weight on one shift", "weight on 3 × 3", "consistency R²"]
  assert first[:3] == ["stage_1", "trained", "1.000 ± 0.000"]
  assert first[4] == "1.000 ± 0.000"
  assert (second[2], last[2]) == ("0.050", "0.050")  # one of twenty
  assert (second[4], last[4], last[7]) == ("0.000", "0.000", "1.000")
  assert first[-2:] == ["2.000 ± 0.000", "0.000 ± 0.000"]


@pytest.mark.slow
def test_runs_are_measured_with_the_parameters_that_they_ended_and_began_with(stages, tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(variants.VARIANTS, "tiny", TINY)
  experiment = Experiment(num_steps=2, batch_size=8, model=Model("tiny"), checkpoint=Checkpoint(every=1, keep_newest=3))
  run(experiment, tmp_path / "run")
  stages["main"]([str(tmp_path / "run"), "--images=3", f"--out={tmp_path / 'stages.pdf'}"])
  *table, path = capsys.readouterr().out.splitlines()[-6:]
  assert path == str(tmp_path / "stages.pdf") and (tmp_path / "stages.pdf").read_bytes().startswith(b"%PDF")
  trained, untrained = (line.split("|")[3:-1] for line in table if line.startswith("| stage_2/block_0 |"))
  assert trained != untrained
  longer = dataclasses.replace(
    experiment, num_steps=1, optimizer=dataclasses.replace(experiment.optimizer, peak_learning_rate=1e-30)
  )
  run(longer, tmp_path / "still")
  (found,) = stages["compare"]([str(tmp_path / "still")], 3)["trained"]
  (begun,) = stages["compare"]([str(tmp_path / "still")], 3)["untrained"]
  # Parameters that hardly moved are those that it began with.
  np.testing.assert_allclose(found.spreads["position"], begun.spreads["position"], rtol=1e-4)
