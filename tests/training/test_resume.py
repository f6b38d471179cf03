"""A workdir and its run: continued as if it had not been stopped, and by nobody else."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from convattn.errors import UserError
from convattn.training import ImageClassification, make_mesh, run, runs, sha256, workdir as files
from convattn.training.checkpoints import Checkpoints
from convattn.training.writer import read_metrics

pytestmark = pytest.mark.usefixtures("shared_programs")


def test_a_finished_run_prints_its_result_and_trains_nothing(toy, finished, capsys):
  folder, state = finished
  before = toy.snapshot(folder)

  def refuse():
    raise AssertionError("trained")

  task = toy.Interrupted(toy.dataset(), toy.EXPERIMENT).at(1, refuse)
  again = run(toy.EXPERIMENT, folder, model=toy.Toy(), task=task)
  assert sha256(again) == sha256(state)
  assert toy.snapshot(folder) == before
  shown = capsys.readouterr().out
  assert "finished run" in shown
  assert "test accuracy" in shown
  assert "WORKDIR=" in shown


def test_another_experiment_is_refused_and_changes_nothing(toy, finished):
  other, before = dataclasses.replace(toy.EXPERIMENT, batch_size=16), toy.snapshot(finished[0])
  with pytest.raises(UserError, match=r"other settings \(batch_size: 8 there, 16 now\)"):
    run(other, finished[0], model=toy.Toy(), task=ImageClassification(toy.dataset(), other))
  assert toy.snapshot(finished[0]) == before


@pytest.mark.parametrize(
  ("dropout", "data", "message"),
  [
    (0.2, {}, r"model or data \(model.dropout: '0.1' there, '0.2' now\)"),
    (0.1, {"train": 38}, r"data.metadata.num_examples.train: 37 there, 38 now; data.sha256.train: '"),
    (0.1, {"test": 14}, r"model or data \(data.metadata.num_examples.test: 13 there, 14 now"),
  ],
)
def test_another_model_or_other_data_are_refused_and_change_nothing(toy, finished, dropout, data, message):
  before = toy.snapshot(finished[0])
  with pytest.raises(UserError, match=message):
    run(
      toy.EXPERIMENT,
      finished[0],
      model=toy.Toy(dropout=dropout),
      task=ImageClassification(toy.dataset(**data), toy.EXPERIMENT),
    )
  assert toy.snapshot(finished[0]) == before


def test_other_images_of_the_same_number_are_refused(toy, finished):
  data = toy.dataset()
  for name in ("train", "validation", "test"):
    source = getattr(data, name)
    other = dataclasses.replace(data, **{name: dataclasses.replace(source, images=source.images[::-1])})
    with pytest.raises(UserError, match=rf"model or data \(data.sha256.{name}: "):
      run(toy.EXPERIMENT, finished[0], model=toy.Toy(), task=ImageClassification(other, toy.EXPERIMENT))


def test_a_finished_run_is_read_with_any_number_of_devices(toy, finished, tmp_path, monkeypatch):
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT)
  monkeypatch.setattr(runs, "make_mesh", lambda fsdp: make_mesh(jax.devices()[:3]))
  with pytest.raises(ValueError, match="batch_size must be a multiple of the 3 devices"):
    run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=task)
  assert sha256(run(toy.EXPERIMENT, finished[0], model=toy.Toy(), task=task)) == sha256(finished[1])


def test_a_result_without_its_checkpoint_or_its_numbers_says_what_to_do(toy, tmp_path):
  experiment = toy.short(1)
  task = ImageClassification(toy.dataset(), experiment)
  state = run(experiment, tmp_path, model=toy.Toy(), task=task)
  result, written = toy.result(tmp_path), tmp_path / files.RESULT
  written.write_text("{")
  with pytest.raises(UserError, match="result.json is damaged .* delete this file alone"):
    run(experiment, tmp_path, model=toy.Toy(), task=task)
  written.unlink()
  assert sha256(run(experiment, tmp_path, model=toy.Toy(), task=task)) == sha256(state)
  assert toy.result(tmp_path) == result
  shutil.rmtree(tmp_path / files.CHECKPOINTS)
  with pytest.raises(UserError, match="result.json but no whole checkpoint of step 1; delete"):
    run(experiment, tmp_path, model=toy.Toy(), task=task)


def test_a_workdir_in_use_is_refused(toy, tmp_path):
  experiment = toy.short(1)
  with files.locked(tmp_path), pytest.raises(UserError, match="another run is working in"):
    run(experiment, tmp_path, model=toy.Toy(), task=ImageClassification(toy.dataset(), experiment))
  assert [path.name for path in tmp_path.iterdir()] == [files.LOCK]


@pytest.mark.parametrize("step", [2, 7, 9, 23])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(toy, finished, tmp_path, step):
  class Stop(Exception):
    pass

  def stop():
    raise Stop

  with pytest.raises(Stop):
    run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=toy.Interrupted(toy.dataset(), toy.EXPERIMENT).at(step, stop))
  assert not (tmp_path / files.RESULT).exists()
  state = run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=ImageClassification(toy.dataset(), toy.EXPERIMENT))
  assert sha256(state) == sha256(finished[1])
  assert toy.lines(tmp_path) == toy.lines(finished[0])
  assert toy.result(tmp_path) == toy.result(finished[0])


def test_a_run_stopped_between_its_last_checkpoint_and_its_result_is_completed(toy, finished, tmp_path, monkeypatch):
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT)
  write = files.write_json

  def fail_at_the_result(path, value):
    if path.name == files.RESULT:
      raise OSError("no space left")
    write(path, value)

  monkeypatch.setattr(files, "write_json", fail_at_the_result)
  with pytest.raises(OSError, match="no space"):
    run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=task)
  monkeypatch.undo()
  last = read_metrics(tmp_path / files.METRICS)[-1]
  state = run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=task)
  assert sha256(state) == sha256(finished[1])
  assert toy.lines(tmp_path) == toy.lines(finished[0])
  assert toy.result(tmp_path) == toy.result(finished[0])
  result = files.read_json(tmp_path / files.RESULT)
  assert result["seconds"] > last["seconds"] > 0  # of both processes
  assert result["images_per_second"] == last["images_per_second"] > 0


def test_a_run_stopped_as_soon_as_a_checkpoint_is_complete_misses_no_line(toy, finished, tmp_path, monkeypatch):
  task = ImageClassification(toy.dataset(), toy.EXPERIMENT)
  save = Checkpoints.save

  def stop_after_it(self, step, *args):
    save(self, step, *args)
    self.wait()
    if step == 16:
      raise KeyboardInterrupt

  monkeypatch.setattr(Checkpoints, "save", stop_after_it)
  with pytest.raises(KeyboardInterrupt):
    run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=task)
  monkeypatch.undo()
  run(toy.EXPERIMENT, tmp_path, model=toy.Toy(), task=task)
  assert toy.lines(tmp_path) == toy.lines(finished[0])


def test_a_run_goes_on_with_other_values_of_what_does_not_touch_its_updates(toy, tmp_path):
  settings = {"max_skipped_steps": 3, "data.workers": 2, "data.broken": "skip", "data.exif": False, "wandb_project": ""}
  settings |= {"compute.fsdp": 2, "compute.debug_nans": True}
  assert set(settings) == files.MAY_CHANGE
  files.write_config(tmp_path, toy.EXPERIMENT, {})
  for name, value in settings.items():
    section, _, leaf = name.rpartition(".")
    changed = (
      {section: dataclasses.replace(getattr(toy.EXPERIMENT, section), **{leaf: value})} if section else {leaf: value}
    )
    files.check_config(tmp_path, dataclasses.replace(toy.EXPERIMENT, **changed))
  with pytest.raises(UserError, match="micro_batches: 1 there, 2 now"):
    files.check_config(tmp_path, dataclasses.replace(toy.EXPERIMENT, micro_batches=2))


def test_fewer_skipped_updates_than_there_were_are_refused_at_the_start(toy, tmp_path):
  class Diverging(ImageClassification):
    def losses(self, outputs, targets):
      return super().losses(outputs, targets) * np.inf

  def train(**changes):
    experiment = dataclasses.replace(toy.short(8), **changes)
    return run(experiment, tmp_path, model=toy.Toy(), task=Diverging(toy.dataset(), experiment))

  train(max_skipped_steps=9)
  (tmp_path / files.RESULT).unlink()
  with pytest.raises(FloatingPointError, match=r"not finite at steps 1, 2, .*8 in all, max_skipped_steps is 5"):
    train(max_skipped_steps=5)


def test_a_run_without_a_whole_checkpoint_starts_again_and_keeps_its_record(toy, finished, tmp_path, capfd):
  folder, state = finished
  copy = tmp_path / "run"
  shutil.copytree(folder, copy)
  (copy / "result.json").unlink()
  for checkpoint in (copy / "checkpoints").glob("[0-9]*"):
    (checkpoint / "_CHECKPOINT_METADATA").write_bytes(b"")
  record = (copy / "metrics.jsonl").read_bytes()
  capfd.readouterr()
  again = run(toy.EXPERIMENT, copy, model=toy.Toy(), task=ImageClassification(toy.dataset(), toy.EXPERIMENT))
  assert sha256(again) == sha256(state)
  assert toy.lines(copy) == toy.lines(folder)
  assert (copy / "metrics.jsonl.1").read_bytes() == record
  *damaged, line = [each for each in capfd.readouterr().err.splitlines() if each.startswith("warning: ")]
  assert damaged and all(" is damaged (" in each for each in damaged)
  assert line == (
    f"warning: no checkpoint is left: the run starts again, and its lines are now in {copy / 'metrics.jsonl.1'}."
  )
