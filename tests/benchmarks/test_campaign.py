"""benchmarks.campaign: what it calls equal and what not, what it damages, and a short one."""

import json
import random

import pytest

from benchmarks import campaign, campaign_damage
from benchmarks.campaign import Trial, outcome_of

RESULT = {"step": 40, "test/accuracy": 0.5, "best/step": 20, "best/validation/accuracy": 0.75, "state_sha256": "ab"}
LINES = [{"step": 10, "train/loss": 2.5}, {"step": 20, "train/loss": 2.25}]
FELL_BACK = "warning: the checkpoint 40 is damaged (x is missing); it is now y and does not count.\n"


def write(folder, result=None, lines=LINES, seconds=1.0):
  folder.mkdir()
  (folder / "result.json").write_text(json.dumps({**RESULT, **(result or {}), "seconds": seconds}))
  (folder / "metrics.jsonl").write_text("".join(json.dumps({**line, "seconds": seconds}) + "\n" for line in lines))
  return folder


@pytest.fixture
def straight(tmp_path):
  return write(tmp_path / "straight")


def test_only_times_may_differ(straight, tmp_path):
  run = write(tmp_path / "run", seconds=7.0)
  assert outcome_of(run, straight, 0, "") == ("equal", "")
  assert outcome_of(run, straight, 0, FELL_BACK) == ("fell back", "")


@pytest.mark.parametrize(
  "different",
  [
    {"result": {"test/accuracy": 0.5000001}},
    {"result": {"state_sha256": "ac"}},
    {"result": {"more": 1}},
    {"result": {"best/step": 30}},
    {"lines": LINES[:1]},
    {"lines": [*LINES, LINES[-1]]},
    {"lines": [LINES[0], {"step": 20, "train/loss": 2.2500001}]},
  ],
)
@pytest.mark.parametrize("printed", ["", FELL_BACK])
def test_a_resume_that_ends_otherwise_is_a_failure(straight, tmp_path, different, printed):
  assert outcome_of(write(tmp_path / "run", **different), straight, 0, printed, lost=40)[0] == "failure"


def test_a_traceback_and_an_exit_status_are_failures(straight, tmp_path):
  run = write(tmp_path / "run")
  assert outcome_of(run, straight, 1, "out of memory") == ("failure", "exit status 1: out of memory")
  assert outcome_of(run, straight, 0, "Traceback (most recent call last)")[0] == "failure"


def test_the_best_may_be_another_only_if_it_was_the_one_damaged(straight, tmp_path):
  run = write(tmp_path / "run", {"best/step": 10, "best/validation/accuracy": 0.5})
  assert outcome_of(run, straight, 0, FELL_BACK, lost=20) == ("best lost", "best/step is 10")
  assert outcome_of(run, straight, 0, FELL_BACK, lost=40)[0] == "failure"
  assert outcome_of(run, straight, 0, "", lost=20)[0] == "failure"
  other = write(tmp_path / "other", {"best/step": 10, "test/accuracy": 0.25})
  assert outcome_of(other, straight, 0, FELL_BACK, lost=20)[0] == "failure"


def test_every_file_of_every_step_is_lost_and_emptied_and_drawn_ones_are_cut_and_changed(tmp_path):
  names = ["5/a", "5/empty", "30/b", "30/c/d"]
  for name in names:
    (tmp_path / "checkpoints" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "checkpoints" / name).write_bytes(b"" if name.endswith("empty") else b"12345")
  (tmp_path / "checkpoints" / "damaged").mkdir()
  trials = list(campaign.damages(tmp_path, 40, random.Random(0)))
  every = sorted(f"checkpoints/{name}" for name in names)
  filled = [name for name in every if not name.endswith("empty")]
  chosen = {}
  for kind, what, _ in trials:
    chosen.setdefault(kind, []).append(what.split(" ")[0])
  assert (chosen["file missing"], chosen["file emptied"]) == (every, filled)
  for kind in ("file cut off", "bit flipped"):
    assert (len(chosen[kind]), set(chosen[kind])) == (40, set(filled))
  path = tmp_path / filled[0]
  for _, what, damage in trials:
    before = (tmp_path / what.split(" ")[0]).read_bytes()
    damage(tmp_path / what.split(" ")[0])
    after = (tmp_path / what.split(" ")[0]).read_bytes() if (tmp_path / what.split(" ")[0]).exists() else None
    assert after != before
    (tmp_path / what.split(" ")[0]).write_bytes(before)
  campaign_damage.flip(path, 9)
  assert path.read_bytes() == b"10345"
  campaign_damage.cut(path, 2)
  assert path.read_bytes() == b"10"


def test_the_table_counts_by_kind():
  trials = [Trial("kill", "a", "equal"), Trial("kill", "b", "failure"), Trial("flip", "c", "fell back")]
  assert campaign.table(trials).splitlines() == [
    "what  trials  equal  fell back  best lost  failures",
    "kill       2      1          0          0         1",
    "flip       1      0          1          0         0",
    "all        3      1          1          0         1",
  ]


@pytest.mark.parametrize(("outcome", "status"), [("equal", 0), ("failure", 1)])
def test_a_failure_is_the_exit_status(tmp_path, monkeypatch, outcome, status):
  monkeypatch.setattr(campaign, "campaign", lambda *_: iter([Trial("kill", "a", outcome)]))
  assert campaign.main([f"--out={tmp_path / 'new' / 'report.json'}"]) == status
  (trial,) = json.loads((tmp_path / "new" / "report.json").read_text())["trials"]
  assert trial == {"kind": "kill", "what": "a", "outcome": outcome, "detail": ""}


@pytest.mark.slow
def test_a_short_campaign_survives_and_sees_a_resume_that_is_made_different(tmp_path, monkeypatch):
  runner = campaign.Runner(tmp_path)
  assert runner.resume("straight")[0] == 0
  points = ["between commit and manifest", "writing the result"]
  trials = list(campaign.killed_at_points(runner, points))
  assert [trial.outcome for trial in trials] == ["fell back", "equal"], trials

  def few(run, count, draws):
    every = list(all_damages(run, count, draws))
    yield from [every[0], every[-1 - count], every[-1]]  # one of the older step, one cut off, one flipped

  all_damages = campaign.damages
  monkeypatch.setattr(campaign, "damages", few)
  trials = list(campaign.damaged(runner, 2, random.Random(1)))
  assert len({trial.kind for trial in trials}) == 3
  assert {trial.outcome for trial in trials} <= {"fell back", "best lost"}, trials
  result = tmp_path / "straight" / "result.json"
  result.write_text(result.read_text().replace('"state_sha256": "', '"state_sha256": "0'))
  (different,) = campaign.killed_at_points(runner, ["writing the result"])
  assert (different.outcome, "state_sha256" in different.detail) == ("failure", True)
