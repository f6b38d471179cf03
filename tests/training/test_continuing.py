"""A run that goes on for longer, or with other settings; and one that is refused, with every byte where it was."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from convattn.errors import UserError
from convattn.training import Experiment, ImageClassification, Model, restore, run, runs, sha256, workdir as files
from convattn.training.description import describe_model
from convattn.training.program import make_model
from convattn.training.settings import changing, fields
from tests.training.test_landed_workdirs import EXPERIMENT as LANDED, MODEL, WORKDIRS

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")


def changed(experiment, **settings):
  """The experiment with some settings replaced, by dotted names with __ for the dot."""
  for name, value in settings.items():
    section, _, leaf = name.rpartition("__")
    part = dataclasses.replace(getattr(experiment, section), **{leaf: value}) if section else value
    experiment = dataclasses.replace(experiment, **{section or leaf: part})
  return experiment


def go(toy, folder, experiment, changes="continue", **data):
  task = toy.Interrupted(toy.dataset(**data), experiment)
  return run(experiment, folder, model=toy.Toy(), task=task, changes=changes)


def stop(toy, folder, experiment, step, changes="continue"):
  """A run that ends without a word when it asks for the batch of `step`."""

  class Stop(Exception):
    pass

  def interrupt():
    raise Stop

  task = toy.Interrupted(toy.dataset(), experiment).at(step, interrupt)
  with pytest.raises(Stop):
    run(experiment, folder, model=toy.Toy(), task=task, changes=changes)


def content(folder):
  """Every file below, to the byte, but the lock, which is empty."""
  return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_refused_when_the_record_is_opened_changes_nothing_that_counts(toy, four, tmp_path, monkeypatch):
  shutil.copytree(four, tmp_path, dirs_exist_ok=True)

  def refuse(*arguments):
    raise UserError("no such project")

  monkeypatch.setattr("convattn.training.loop.open_writer", refuse)
  before = content(tmp_path)
  with pytest.raises(UserError, match="no such project"):
    go(toy, tmp_path, toy.short(8))
  assert content(tmp_path) == before


def history(folder):
  return files.read_json(folder / files.CONFIG)[files.HISTORY]


@pytest.fixture(scope="module")
def four(toy, tmp_path_factory):
  """A run that has ended after 4 steps."""
  folder = tmp_path_factory.mktemp("four")
  with toy.sharing():
    go(toy, folder, toy.short(4), changes="refuse")
  return folder


@pytest.fixture
def folder(four, tmp_path):
  return shutil.copytree(four, tmp_path / "run")


def test_a_finished_run_that_goes_on_equals_one_that_was_as_long_from_the_start(toy, folder, tmp_path, capsys):
  before = content(folder)
  state = go(toy, folder, toy.short(8))
  straight = go(toy, tmp_path / "straight", toy.short(8))
  assert sha256(state) == sha256(straight)
  assert toy.result(folder) == toy.result(tmp_path / "straight")
  added = toy.lines(folder)[0]
  assert [line["step"] for line in toy.lines(folder)] == [4, 5, 8] and "test/loss" in added
  assert toy.lines(folder)[1:] == toy.lines(tmp_path / "straight")[1:]
  for name in ("result.json", "confusion.json", "README.md"):
    assert (folder / files.EARLIER / "4" / name).read_bytes() == before[type(folder)(name)]
  assert history(folder) == [{"step": 4, "changed": {"num_steps": {"from": 4, "to": 8}}}]
  assert history(tmp_path / "straight") == []
  assert restore(folder, model=toy.Toy()).experiment == toy.short(8)
  continued, whole = ((each / "README.md").read_text().splitlines()[1:] for each in (folder, tmp_path / "straight"))
  changed_row = "- changed on the way: after step 4 `num_steps` from 4 to 8"
  assert changed_row in continued
  its_own = ("- time: ", "run(", changed_row)  # the call names the workdir
  assert [row for row in continued if not row.startswith(its_own)] == [
    row for row in whole if not row.startswith(its_own)
  ]
  line = "changed after step 4: num_steps: 4 there, 8 now; the learning rate goes on at 0.02 instead of 0.02, constant"
  assert f"\n{line} up to step 8\n" in capsys.readouterr().out


def other_settings(toy):
  """Six steps, of which all but four have another schedule, optimizer, augmentation, loss and batch."""
  now = changed(toy.short(6), optimizer__schedule="linear", optimizer__end_learning_rate=0.0, optimizer__clip_norm=0.0)
  now = changed(now, optimizer__beta1=0.8, augmentation__flip=False, loss__label_smoothing=0.0)
  return changed(now, batch_size=4, micro_batches=2, eval_batch_size=8)


def test_the_new_settings_hold_from_there_on_and_the_moments_are_kept(toy, folder, capsys):
  now = other_settings(toy)
  stop(toy, folder, now, 4)
  assert "the learning rate goes on at 0.00667 instead of 0.02, linear up to step 6" in capsys.readouterr().out
  state = go(toy, folder, now, changes="refuse")
  rates = {line["step"]: line["train/learning_rate"] for line in toy.lines(folder) if "train/learning_rate" in line}
  assert rates[6] == pytest.approx(0.02 / 6)  # of the one update since the line of step 5
  counts = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state) if "count" in str(path[-1])]
  assert counts and all(int(count) == 6 for count in counts)
  assert len(history(folder)) == 1 and set(history(folder)[0]["changed"]) == {
    *("num_steps", "batch_size", "eval_batch_size", "micro_batches", "augmentation.flip", "loss.label_smoothing"),
    *(f"optimizer.{name}" for name in ("schedule", "end_learning_rate", "clip_norm", "beta1")),
  }


def test_another_nesting_of_the_optimizer_holds_the_same_moments(toy, folder):
  from convattn.training.checkpoints import Checkpoints, as_saved

  now = other_settings(toy)
  program = [toy.shared_build(each, toy.Toy(), ImageClassification(toy.dataset(), each), runs.make_mesh(1))
             for each in (toy.short(4), now)]  # fmt: skip
  kept = []
  for each in program:
    with Checkpoints(folder / files.CHECKPOINTS, now.checkpoint, None) as checkpoints:
      kept.append(checkpoints.restore(each.template))
  assert jax.tree.structure(kept[0].opt_state) != jax.tree.structure(kept[1].opt_state)
  assert jax.tree.structure(kept[1]) == jax.tree.structure(program[1].template)
  leaves = [jax.tree.leaves(each.opt_state) for each in kept]
  assert any(np.any(np.asarray(leaf)) for leaf in leaves[0])
  jax.tree.map(np.testing.assert_array_equal, *leaves)
  other = dataclasses.replace(program[1].template, opt_state=jax.tree.leaves(program[1].template.opt_state)[:-1])
  with pytest.raises(UserError, match="holds no state of this run"):
    as_saved(folder / files.CHECKPOINTS / "4", other)


@pytest.mark.parametrize("decay", [(0.8, 0.0), (0.0, 0.8)])
def test_averages_begin_with_the_weights_that_were_saved_or_are_left_out(toy, tmp_path, decay):
  before, now = (changed(toy.short(steps), ema_decay=each) for steps, each in zip((2, 3), decay, strict=True))
  first = go(toy, tmp_path, before)
  weights = jax.device_get({"params": first.params, "model_state": first.model_state})
  state = go(toy, tmp_path, now)
  assert bool(state.ema) == bool(decay[1])
  assert restore(tmp_path, model=toy.Toy()).averaged == bool(decay[1])
  if state.ema:
    weight = (1 - 0.8) / (1 - 0.8**3)
    averaged = jax.tree.map(lambda old, new: old + weight * (new - old), weights["params"], state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), averaged, state.ema["params"])


REFUSED = {
  "seed": {"seed": 1},
  "model": {"model": Model("coatnet_mini_32")},
  "data.classes": {"data__classes": "0-1"},
  "optimizer.freeze": {"optimizer__freeze": "conv"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mixture_is_refused_also_where_it_is_asked_for(toy, folder, name):
  before = content(folder)
  with pytest.raises(
    UserError, match=rf"holds a run with other settings \({name}[^ ]*: .* now\)\. Give this one anoth"
  ):
    go(toy, folder, changed(toy.short(8), num_steps=8, **REFUSED[name]))
  assert content(folder) == before


def test_other_data_or_another_model_are_refused_also_where_batches_have_other_sizes(toy, folder):
  before = content(folder)
  now = changed(other_settings(toy), data__dir="moved")
  with pytest.raises(UserError, match=r"model or data \(data.metadata.num_examples.train: 37 there, 36 now"):
    go(toy, folder, now, train=36)
  data = toy.dataset()
  for name in ("train", "validation", "test"):
    other = dataclasses.replace(getattr(data, name), images=getattr(data, name).images[::-1])
    task = ImageClassification(dataclasses.replace(data, **{name: other}), now)
    with pytest.raises(UserError, match=rf"model or data \(data.sha256.{name}: "):
      run(now, folder, model=toy.Toy(), task=task, changes="continue")
  with pytest.raises(UserError, match=r"model.dropout: '0.1' there, '0.2' now"):
    run(now, folder, model=toy.Toy(dropout=0.2), task=ImageClassification(data, now), changes="continue")
  assert content(folder) == before
  go(toy, folder, now)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"num_steps": 3}, "num_steps must be above 4, .* got 3"),
    ({"num_steps": 4, "optimizer__beta1": 0.5}, "num_steps must be above 4, .* got 4"),
    ({"num_steps": 8, "optimizer__warmup_steps": 8}, "warmup_steps must be below num_steps"),
    ({"num_steps": 8, "batch_size": 7, "micro_batches": 2}, "batch_size must be a multiple"),
  ],
)
def test_a_wrong_value_changes_no_byte(toy, folder, settings, message):
  before = content(folder)
  with pytest.raises(UserError, match=message):
    go(toy, folder, changed(toy.short(4), **settings))
  assert content(folder) == before


def test_without_being_asked_no_run_goes_on_with_other_settings(toy, folder):
  before = content(folder)
  for now in (toy.short(8), changed(toy.short(4), optimizer__beta1=0.5), changed(toy.short(4), loss__kind="sigmoid")):
    with pytest.raises(
      UserError, match=r"now\)\. To go on with these add --continue .*'continue'\); else give this one"
    ):
      go(toy, folder, now, changes="refuse")
  with pytest.raises(UserError, match="changes must be 'refuse' or 'continue', got 'yes'"):
    go(toy, folder, toy.short(8), changes="yes")
  assert content(folder) == before


def test_a_finished_run_whose_last_checkpoint_is_gone_does_not_go_on(toy, folder):
  shutil.rmtree(folder / files.CHECKPOINTS / "4")
  before = content(folder)
  with pytest.raises(UserError, match="has a result.json but no whole checkpoint of step 4 to go on from"):
    go(toy, folder, toy.short(8))
  assert content(folder) == before


def test_what_changes_freely_is_recorded_and_nothing_else_is_asked(toy, folder, tmp_path, capsys):
  now = changed(toy.short(8), eval_every=2, checkpoint__every=2, checkpoint__keep_newest=3, log_every=1)
  now = changed(now, eval_batch_size=8, data__workers=2)
  stop(toy, folder, toy.short(8), 6)
  before = content(folder)
  finished = shutil.copytree(folder, tmp_path / "copy")
  state = go(toy, finished, now, changes="refuse")
  assert "changed after step 4: eval_batch_size: 4 there, 8 now; " in capsys.readouterr().out
  assert [each["step"] for each in history(finished)] == [4, 4]
  assert history(finished)[0] == history(folder)[0]
  assert history(finished)[1]["changed"]["checkpoint.every"] == {"from": 4, "to": 2}
  straight = go(toy, tmp_path / "straight", toy.short(8))
  assert sha256(state.params) == sha256(straight.params)
  assert {"6", "8"} <= {path.name for path in (finished / files.CHECKPOINTS).iterdir()}
  assert content(folder) == before
  again = content(finished)
  go(toy, finished, toy.short(8), changes="refuse")  # of a finished run nothing is left to be recorded
  assert content(finished) == again


def test_every_setting_that_changes_freely_is_taken_and_every_other_is_refused(tmp_path):
  experiment = Experiment()
  files.write_config(tmp_path, files.Recorded(experiment, {}))
  taken = {"refused": (), "continued": (True,), "freely": (False, True)}
  for name, _, _, value in fields(experiment):
    other = not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else "other"
    section, _, leaf = name.rpartition(".")
    if section == "model":  # whose names and values are checked when it is made
      continue
    now = changed(experiment, **{f"{section}__{leaf}" if section else leaf: other})
    for continued in (False, True):
      if continued in taken[changing(experiment)[name]]:
        assert files.check_config(tmp_path, now, continued=continued).experiment == experiment
      else:
        with pytest.raises(UserError, match=rf"\({name}: "):
          files.check_config(tmp_path, now, continued=continued)
  assert {"model.pool", "seed", "data.name"} <= {
    name for name, kind in changing(experiment).items() if kind == "refused"
  }


def test_a_model_may_be_computed_in_another_dtype_where_that_is_what_changes(tmp_path):
  def identity(experiment):
    return {"model": describe_model(make_model(experiment, 10)), "data": {}}

  before, now = Experiment(), changed(Experiment(), compute__dtype="bfloat16", compute__remat="block")
  files.write_config(tmp_path, files.Recorded(before, identity(before)))
  files.check_config(tmp_path, now, identity(now), continued=True)
  with pytest.raises(UserError, match=r"model.dtype: 'float32' there, 'bfloat16' now; model.remat: 'none' there"):
    files.check_config(tmp_path, before, identity(now), continued=True)


def test_a_run_that_is_killed_as_it_begins_to_go_on_does_so_once(toy, folder, tmp_path, monkeypatch):
  """Before config.json, behind it, before the result is moved, behind it, before the first new checkpoint."""
  straight = go(toy, tmp_path / "straight", toy.short(8))
  killed = []

  class Kill(Exception):
    pass

  def kill(place):
    def instead(*_, **__):
      killed.append(place)
      raise Kill

    return instead

  def go_and_die(place, instead, changes="continue"):
    with monkeypatch.context() as patch:
      patch.setattr(files, place, instead)
      with pytest.raises(Kill):
        go(toy, folder, toy.short(8), changes)
    assert (folder / files.RESULT).exists()

  for place in ("write_config", "keep_result"):
    go_and_die(place, kill(place))
  write = files.write_whole
  go_and_die(  # the settings are its own by now
    "write_whole", lambda made: (kill("copies") if files.EARLIER in str([*made]) else write)(made), changes="refuse"
  )
  stop(toy, folder, toy.short(8), 5)
  assert not (folder / files.RESULT).exists()
  stop(toy, folder, toy.short(8), 6, changes="refuse")
  assert killed == ["write_config", "keep_result", "copies"]
  state = go(toy, folder, toy.short(8))
  assert sha256(state) == sha256(straight)
  assert history(folder) == [{"step": 4, "changed": {"num_steps": {"from": 4, "to": 8}}}]
  assert toy.result(folder / files.EARLIER / "4")["step"] == 4
  before = content(folder)
  go(toy, folder, toy.short(8))
  assert content(folder) == before


def test_where_the_checkpoint_of_a_change_is_lost_the_history_follows(toy, tmp_path):
  experiment = changed(toy.short(12), checkpoint__keep_newest=3)
  stop(toy, tmp_path, experiment, 9)
  now = changed(experiment, eval_every=2)
  stop(toy, tmp_path, now, 9)
  assert [each["step"] for each in history(tmp_path)] == [8]
  (tmp_path / files.CHECKPOINTS / "8" / "_CHECKPOINT_METADATA").write_bytes(b"")
  stop(toy, tmp_path, now, 5)
  assert history(tmp_path) == [{"step": 4, "changed": {"eval_every": {"from": 4, "to": 2}}}]


def test_a_workdir_in_which_nothing_has_begun_begins(toy, tmp_path, capsys):
  go(toy, tmp_path / "new", toy.short(1))
  assert history(tmp_path / "new") == []
  assert "changed" not in capsys.readouterr().out


def test_a_record_without_a_history_goes_on(toy, folder):
  stored = files.read_json(folder / files.CONFIG)
  del stored[files.HISTORY]
  files.write_json(folder / files.CONFIG, stored)
  go(toy, folder, toy.short(5))
  assert [each["step"] for each in history(folder)] == [4]


@pytest.mark.slow
def test_a_workdir_of_an_earlier_version_goes_on(tmp_path):
  folder = shutil.copytree(WORKDIRS / "finished", tmp_path / "run")
  assert files.HISTORY not in json.loads((folder / files.CONFIG).read_text())
  now = changed(LANDED, num_steps=26, optimizer__layer_decay=1.0, augmentation__resized_crop_area=0.5)
  run(now, folder, model=MODEL, changes="continue")
  assert files.read_result(folder)["step"] == 26
  assert [each["step"] for each in history(folder)] == [24]
  assert restore(folder).experiment == now


def test_a_history_that_is_none_is_damage(tmp_path):
  files.write_config(tmp_path, files.Recorded(Experiment(), {}, [{"step": 3, "changed": {}}]))
  assert files.read_config(tmp_path).history == [{"step": 3, "changed": {}}]
  for damage in ([3], {"step": 3}, [{"changed": {}}], 5):
    stored = {**files.read_json(tmp_path / files.CONFIG), files.HISTORY: damage}
    files.write_json(tmp_path / files.CONFIG, stored)
    with pytest.raises(UserError, match="config.json is damaged"):
      files.check_config(tmp_path, Experiment())
