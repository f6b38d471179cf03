import dataclasses

import pytest

from convattn.training import ImageClassification, run, tracing, workdir as files
from convattn.training.tracing import Trace, too_few

pytestmark = pytest.mark.usefixtures("shared_programs")


def test_the_timeline_of_a_few_updates_is_on_the_disk(toy, tmp_path):
  experiment = dataclasses.replace(toy.short(5), eval_every=4)
  task = ImageClassification(toy.dataset(), experiment)
  run(experiment, tmp_path, model=toy.Toy(), task=task, trace_steps=2)
  assert [path.name for path in (tmp_path / files.PROFILE).rglob("*.xplane.pb")]
  run(experiment, tmp_path / "none", model=toy.Toy(), task=task)
  assert not (tmp_path / "none" / files.PROFILE).exists()


def test_where_too_few_updates_are_left_one_line_says_so(toy, tmp_path, capsys):
  assert [too_few(left, 5) is None for left in (0, 1, 2, 3)] == [False, False, False, True]
  assert too_few(0, 0) is None
  experiment = toy.short(2)
  task = ImageClassification(toy.dataset(), experiment)
  for left in (2, 0):  # and of a finished run
    run(experiment, tmp_path, model=toy.Toy(), task=task, trace_steps=2)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "timeline" in line]
    assert f"only {left} are left" in line
  assert not (tmp_path / files.PROFILE).exists()


def test_it_begins_after_the_warm_up_lasts_as_many_steps_as_asked_for_and_ends_with_the_run(monkeypatch, tmp_path):
  calls = []
  monkeypatch.setattr(tracing.jax.profiler, "start_trace", lambda folder: calls.append("start"))
  monkeypatch.setattr(tracing.jax.profiler, "stop_trace", lambda: calls.append("stop"))

  def record(first, count, last):
    calls.clear()
    with Trace(tmp_path, first, count) as trace:
      for step in range(first, last):
        trace.before(step, ())
        calls.append(step)
    return list(calls)

  assert record(3, 2, 9) == [3, 4, "start", 5, 6, "stop", 7, 8]
  assert record(3, 9, 7) == [3, 4, "start", 5, 6, "stop"]
  assert record(3, 0, 6) == [3, 4, 5]
  assert record(3, 2, 5) == [3, 4]
