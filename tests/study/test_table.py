"""The numbers of a study and its table, from scores that are made up."""

import dataclasses
import json
import re
import statistics

import numpy as np
import pytest

from convattn.errors import UserError
from convattn.study import Setting, Study, Tuning, markdown, paired_interval, text
from convattn.study.plan import Run
from convattn.study.progress import Pace, line
from convattn.study.rehearsal import Size
from convattn.study.results import choose, results
from convattn.study.scores import Score
from convattn.training.config import Experiment

SETTINGS = (
  Setting("as_paper", paper="84.1", group="little data"),
  Setting("bias_none", {"model.relative_attention": "none"}, paper="83.8 (Table 6)", group="little data"),
  Setting("more", group="more data"),
  Setting("more_none", group="more data", tuned=False),
)
STUDY = Study("Bias", "Does a bias help?", "it does (somewhere).", Experiment(), SETTINGS, (3, 5), ("as_paper", "more"))
SIZES = {setting.name: Size(12_345 * i, 3_210_000 * i) for i, setting in enumerate(SETTINGS, 1)}
CHANCES = {"as_paper": 0.6, "bias_none": 0.7, "more": 0.9, "more_none": 0.8}


def score(name, seed, train=0.95, seconds=61.5):
  correct = np.random.default_rng([seed, len(name)]).random(503) < CHANCES[name]
  accuracy = {"train": train, "test": int(correct.sum()) / 503}
  return Score(accuracy, {"train": 30, "test": 503}, correct, seconds, "abc")


def tried(value):
  if value is None:
    return Score({}, {}, None, 0.0, "", "nan")
  return Score({"validation": value}, {"validation": 11}, None, 10.0, "abc")


SCORES = {Run(name, seed): score(name, seed) for name in CHANCES for seed in STUDY.seeds}


@pytest.fixture(scope="module")
def result():
  return results(STUDY, SIZES, SCORES, "convattn study x")


def test_the_numbers_are_those_of_the_scores(result):
  assert result == json.loads(json.dumps(result))
  assert (result["finished"], result["seconds"]) == (True, 8 * 61.5)
  row = result["settings"][1]
  found = [SCORES[Run("bias_none", seed)].accuracy["test"] for seed in (3, 5)]
  assert row["test"] == {
    "seeds": dict(zip(("3", "5"), found, strict=True)), "mean": sum(found) / 2, "deviation": statistics.stdev(found)
  }  # fmt: skip
  assert row["gap"] == pytest.approx(0.95 - sum(found) / 2, abs=1e-12)
  ours, theirs = (np.stack([SCORES[Run(name, seed)].correct for seed in (3, 5)]) for name in ("bias_none", "as_paper"))
  expected = paired_interval(ours, theirs)
  assert row["difference"] == {"mean": expected.mean, "low": expected.low, "high": expected.high, "seeds": [3, 5]}
  assert [each["baseline"] for each in result["settings"]] == ["as_paper", "as_paper", "more", "more"]
  assert result["settings"][0]["difference"] is None


def test_of_half_a_study_there_is_what_there_is():
  part = {run: SCORES[run] for run in SCORES if run not in (Run("as_paper", 3), Run("bias_none", 5), Run("more", 3))}
  part.pop(Run("more", 5))
  found = results(STUDY, SIZES, part)
  as_paper, bias_none, more, more_none = found["settings"]
  assert not found["finished"] and found["runs"] == {"all": 8, "ended": 4}
  assert (as_paper["not_run"], bias_none["not_run"], more["not_run"]) == ([3], [5], [3, 5])
  assert as_paper["test"]["deviation"] is None and more["test"]["mean"] is None and more["gap"] is None
  assert bias_none["difference"] is more_none["difference"] is None  # no seed in common
  shown = text(found)
  assert "not run yet: as_paper (seed 3), bias_none (seed 5), more (seeds 3, 5)" in shown
  assert re.search(r"more +37,035 +9.63 M +- +- +- +baseline +-", shown)


def test_where_the_images_have_changed_meanwhile_it_is_said():
  scores = dict(SCORES)
  more = score("bias_none", 5)
  scores[Run("bias_none", 5)] = dataclasses.replace(more, correct=np.append(more.correct, True))
  with pytest.raises(UserError, match=r"bias_none and as_paper were tested on 503 and 504 images: the data ha"):
    results(STUDY, SIZES, scores)


def test_it_says_where_the_validation_part_is_tested_on():
  tuning, sizes = Tuning("optimizer.beta1", (0.1, 0.2)), SIZES | {"more": Size(1, 2, test_is_validation=True)}
  said = "test images of more: the validation part; the data have no test part of their own"
  assert said in text(results(STUDY, sizes, {})).splitlines()
  assert "the validation part" not in text(results(STUDY, SIZES, {}))
  sizes = {name: Size(1, 2, test_is_validation=True) for name in SIZES}
  said = "test images: the validation part, on which the tuning has chosen; the data have no test part of their own"
  assert said in text(results(dataclasses.replace(STUDY, tuning=tuning), sizes, {})).splitlines()


def test_of_one_seed_there_is_no_mean():
  shown = " ".join(text(results(dataclasses.replace(STUDY, seeds=(5,)), SIZES, {})).split())
  assert "that are not augmented, of seed 5 alone; train on" in shown


@pytest.mark.parametrize(
  "values, chosen", [((0.5, 0.7), 0.2), ((0.7, 0.7), 0.1), ((0.7, 0.6), 0.1), ((None, 0.0), 0.2), ((None, None), None)]
)
def test_the_best_candidate_is_chosen_of_equals_the_first(values, chosen):
  study = Study(*(getattr(STUDY, name) for name in ("title", "question", "paper", "base")), SETTINGS, (3,), (),
                tuning=Tuning("optimizer.beta1", (0.1, 0.2), num_steps=7))  # fmt: skip
  scores = {Run("more", 1000, 0.1): tried(values[0])}
  assert choose(study, SETTINGS[2], scores) is None
  scores[Run("more", 1000, 0.2)] = tried(values[1])
  assert choose(study, SETTINGS[2], scores) == chosen
  assert choose(study, SETTINGS[3], scores) is None


def test_the_table_has_every_number(result):
  shown = text(result)
  assert max(map(len, shown.splitlines())) <= 120
  rows = [each.split() for each in shown.splitlines() if re.match(r"  (as_paper|bias_none|more) +\d", each)]
  for cells, row in zip(rows, result["settings"], strict=False):
    assert cells[0] == row["name"]
    assert cells[1] == f"{row['parameters']:,}"
    assert float(cells[4]) == pytest.approx(100 * row["test"]["mean"], abs=0.005)
    assert float(cells[6]) == pytest.approx(100 * row["test"]["deviation"], abs=0.005)
  assert rows[1][-2:] == ["(Table", "6)"]
  difference = result["settings"][1]["difference"]
  ends = f"[{100 * difference['low']:+.2f}, {100 * difference['high']:+.2f}]"
  assert f"{100 * difference['mean']:+.2f} {ends}" in shown
  order = [each.strip() for each in shown.splitlines()]
  assert order.index("little data") < order.index("more data")
  for said in ("tuning: none of the settings was tuned.", "command: convattn study x", "time: 8:12 in 8 runs",
               "seeds 3, 5", "10,000 draws (seed 0)", "The paper: it does (somewhere)."):  # fmt: skip
    assert said in shown, said


def test_a_difference_that_rounds_to_nothing_has_no_sign_of_less(result):
  first, *rest = result["settings"]
  shown = text({**result, "settings": [{**first, "gap": -0.00001}, *rest]})
  assert "+0.00" in shown and "-0.00 " not in shown


def test_markdown_says_the_same(result):
  page = markdown(result, "study.png")
  header, rule, *rows = [each for each in page.splitlines() if each.startswith("|")]
  assert header.count("|") == rule.count("|") == 9 and all(row.count("|") == 9 for row in rows)
  assert [row.split("|")[1].strip() for row in rows] == [
    "**little data**", "as_paper", "bias_none", "**more data**", "more", "more_none"
  ]  # fmt: skip
  assert "![Bias](study.png)" in page and "![" not in markdown(result)
  lines = " ".join(text(result).split())
  for note in re.findall(r"^- (.*)$", page, re.MULTILINE):
    assert " ".join(note.split()) in lines


def test_long_words_of_the_paper_go_below_the_table():
  rows = (Setting("a" * 32, paper="x" * 40), *SETTINGS[2:])
  study = Study("t", "q " * 90, "p", Experiment(), rows, (3,), ("a" * 32, "more"))
  shown = text(results(study, SIZES | {"a" * 32: SIZES["more"]}, {}))
  assert max(map(len, shown.splitlines())) <= 120
  assert f"  paper, {'a' * 32}: {'x' * 40}" in shown.splitlines()


def test_the_budget_of_tuning_is_told():
  tuning = Tuning("optimizer.beta1", (0.1, 0.2), num_steps=70)
  study = Study("t", "q", "p", Experiment(), SETTINGS, (3,), ("as_paper", "more"), tuning=tuning)
  scores = {Run("as_paper", 1000, value): tried(value) for value in (0.1, 0.2)}
  shown = " ".join(text(results(study, SIZES, scores)).split())
  assert "beta1, the best on the validation part of 0.1, 0.2, one run each with seed 1000 and 70 steps" in shown
  assert "as_paper: 0.2 (20.00 %); bias_none: not chosen yet; more: not chosen yet. Not tuned: more_none." in shown


def test_what_is_left_goes_by_the_pace_of_a_setting_and_else_of_all():
  pace, experiment = Pace(), Experiment(num_steps=10, batch_size=4)
  assert pace.left([(Run("a", 0), experiment)]) is None
  pace.add(Run("a", 0), experiment, score("more", 3, seconds=8.0))  # 0.2 seconds an image
  pace.add(Run("b", 0), experiment, score("more", 3, seconds=24.0))  # 0.6
  pace.add(Run("b", 1), experiment, tried(None))  # it ended early
  twice = Experiment(num_steps=20, batch_size=4)
  assert pace.left([(Run("a", 1), twice), (Run("b", 1), experiment)]) == pytest.approx(16 + 24)
  assert pace.left([(Run("c", 0), experiment)]) == pytest.approx(16)
  assert pace.left([]) == 0
  assert line(7, 12, Run("a", 1), score("more", 3), 3905.0) == (
    f" 7/12  a seed 1: train 95.00 %, test {100 * SCORES[Run('more', 3)].accuracy['test']:.2f} % in 1:02; "
    "about 1:05:05 left"
  )
  assert line(1, 3, Run("a", 9, 0.5), tried(None), 0.0) == "1/3  a tuning, 0.5: nan in 0:00"
