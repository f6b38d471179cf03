"""benchmarks/position_heads.py, reduced."""

import json

import numpy as np

from benchmarks.position_heads import group, main
from convattn.ops import pair_weights


def test_both_ways_compute_the_same_attention():
  made = group(side=4, heads=2, terms=3, channels=5, batch=2)
  random = np.random.default_rng(0)
  rows, columns, x = (random.standard_normal(shape).astype(np.float32) for shape in made.shapes[:3])
  pairs = pair_weights(rows, columns)
  assert pairs.shape == made.shapes[3]
  ours, theirs = (lowering(rows, columns, x, pairs) for lowering in made.lowerings.values())
  np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_table_has_a_row_for_each_size_and_kind(tmp_path, capsys):
  output = tmp_path / "position_heads"
  main(["--sides=2,3", "--heads=2", "--channels=3", "--batch=1", "--rounds=1", f"--output={output}"])
  assert sum(line.startswith(("| 2x2", "| 3x3")) for line in capsys.readouterr().out.splitlines()) == 4
  rows = json.loads(output.with_suffix(".json").read_text())["rows"]
  assert [(row["side"], row["kind"]) for row in rows] == [(n, k) for n in (2, 3) for k in ("Gaussian", "table 3x3")]
