"""benchmarks.lowerings: every lowering of a group computes the same."""

import json

import pytest

from benchmarks import lowerings
from benchmarks.lowering_groups import groups

SHRINK = 8
GROUPS = groups(SHRINK)


def test_every_group_has_one_name_and_a_default_on_every_platform():
  for found in (groups(), GROUPS):
    assert len({group.name for group in found}) == len(found)
    for group in found:
      assert len(group.lowerings) > 1
      assert {group.default("cpu"), group.default("gpu"), *group.approximate} <= set(group.lowerings)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_lowerings_agree(group):
  rows = lowerings.compare(group, rounds=1)
  assert [row["lowering"] for row in rows] == list(group.lowerings)
  assert sum(row["default"] for row in rows) == 1
  for row in rows:
    assert row["difference"] <= (2e-3 if row["lowering"] in group.approximate else 2e-6)
    assert 0 < row["lowest_ms"] <= row["median_ms"]


def test_the_verdict_names_the_fastest():
  def row(name, median, default=False):
    return {
      "group": "g",
      "lowering": name,
      "default": default,
      "median_ms": median,
      "lowest_ms": median,
      "difference": 0.0,
    }

  assert lowerings.verdict([row("a", 1.04, True), row("b", 1.0)]) == "the default, a, is the fastest"
  slow = [row("a", 3.0, True), row("b", 1.0), row("c", 2.0)]
  assert lowerings.verdict(slow) == "NOT the fastest: the default, a, takes 3.00 times as long as b"
  assert [line[0] for line in lowerings.table(slow).splitlines()[2:5]] == ["*", " ", " "]


def test_only_the_named_groups_run(tmp_path, capsys):
  output = f"--output={tmp_path / 'found'}"
  result = lowerings.main(["--only=relative_bias", f"--shrink={SHRINK}", "--rounds=3", output])
  assert {row["group"] for row in result["rows"]} == {g.name for g in GROUPS if g.name.startswith("relative_bias")}
  assert json.loads((tmp_path / "found.json").read_text()) == result
  assert "pad and reshape" in capsys.readouterr().out
  with pytest.raises(SystemExit):
    lowerings.main(["--only=nothing"])
  assert "depthwise_conv" in capsys.readouterr().err
