"""benchmarks.memory: lines through bytes, and what a tiny model's programs say."""

import json

import pytest

from benchmarks import memory


def test_a_line_is_laid_through_the_outer_batches():
  line = memory.fit({2: 120, 4: 140, 8: 180})
  assert (line.fixed, line.per_image, line.off) == (100, 10, 0)
  assert memory.fit({2: 120, 4: 200, 8: 180}).off == pytest.approx(0.3)
  with pytest.raises(ValueError, match="two are needed"):
    memory.fit({2: 120})


def test_the_largest_batch_fits_and_one_more_does_not():
  line = memory.Line(fixed=100, per_image=10, off=0)
  found = [line.largest_batch(limit) for limit in range(50, 400, 7)]
  assert found == sorted(found)
  for limit, batch in zip(range(50, 400, 7), found, strict=True):
    assert batch == 0 or line.fixed + batch * line.per_image <= limit
    assert line.fixed + (batch + 1) * line.per_image > limit
  assert memory.Line(100, 0, 0).largest_batch(50) is None


def check(rows):
  for row in rows:
    for sizes in row["bytes"].values():
      assert sizes["total"] == sizes["arguments"] + sizes["results"] + sizes["working"]
      assert sizes["working"] > 0
    images = row["bytes"][4]["arguments"] - row["bytes"][2]["arguments"]
    assert images == 2 * (64 * 64 * 3 * 4 + 4)  # float32 pixels and a label
    assert row["per_image"] > images / 2
    none, some, more = row["largest_batch"].values()
    assert none == 0 < some < more


@pytest.mark.slow
def test_a_tiny_model(tmp_path, capsys):
  chosen = ["--model=test_coatnet", "--size=64", "--batches=2,4", "--remat=none", "--gib=0.001,1,8"]
  result = memory.main([*chosen, f"--output={tmp_path / 'found'}"])
  assert json.loads((tmp_path / "found.json").read_text()) == json.loads(json.dumps(result))
  check(result["rows"])
  shown = capsys.readouterr().out.splitlines()
  assert sum(line.startswith("test_coatnet, none") for line in shown) == 2


@pytest.mark.slow
def test_two_policies_take_turns(tmp_path, capsys):
  chosen = ["--model=test_coatnet", "--size=64", "--batches=2,4", "--remat=none,block", "--gib=0.001,1,8"]
  result = memory.main([*chosen, "--time", "--rounds=1", f"--output={tmp_path / 'found'}"])
  assert [(row["model"], row["remat"]) for row in result["rows"]] == [
    ("test_coatnet", "none"),
    ("test_coatnet", "block"),
  ]
  check(result["rows"])
  assert all(len(row["seconds"]) == 1 and row["seconds"][0] > 0 for row in result["rows"])
  assert "s/step" in capsys.readouterr().out
