"""A run that starts from trained weights: what it takes from them, what it draws anew, and when it reads them."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from convattn import pretrained
from convattn.commands import main
from convattn.data import adapt
from convattn.errors import UserError
from convattn.models import CoAtNet, Run, Spec, Stage, variants
from convattn.training import (
  ImageClassification,
  make_mesh,
  restore,
  run,
  runs,
  sha256,
  workdir as files,
)
from convattn.training.config import Checkpoint, Data, Experiment, Model, Optimizer
from convattn.training.init_from import find_initial, initial_variables
from convattn.training.manifest import write_manifest
from convattn.training.program import run_keys

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")

TINY = Spec((Stage((Run("C", 1, 8),), 2), Stage((Run("T", 1, 8),), 1)), (4, 4), stem_stride=1, head_size=4)


def _flat(tree):
  return {jax.tree_util.keystr(k, simple=True, separator="/"): v for k, v in jax.tree_util.tree_leaves_with_path(tree)}


def _differing(a, b):
  """Paths of leaves that are not the same bit for bit."""
  a, b = _flat(a), _flat(b)
  assert set(a) == set(b)
  return {path for path in a if sha256(a[path]) != sha256(b[path])}


@pytest.fixture(scope="module")
def source(toy, tmp_path_factory):
  """The workdir of a short run on images of 5x7."""
  folder = tmp_path_factory.mktemp("source")
  experiment = toy.short(2)
  with toy.sharing(toy.drawing_build):
    run(experiment, folder, model=toy.coatnet(), task=ImageClassification(toy.dataset(), experiment))
  return folder


def _start(toy, source, experiment, model, dataset):
  """(the weights as they lie there, the state that a run starts from)."""
  experiment = dataclasses.replace(experiment, init_from=str(source))
  task = ImageClassification(dataset, experiment)
  program, key = toy.shared_build(experiment, model, task, make_mesh(jax.devices()[:1])), run_keys(experiment.seed)[0]
  restored = find_initial(experiment, source / "another").restored
  return restored, program.init(key, initial_variables(restored, model, task, program.template, key))


def _variables(state):
  return {"params": state.params, **state.model_state}


def test_the_averaged_weights_are_taken_bit_for_bit_and_nothing_else_of_the_run(toy, source):
  restored, state = _start(toy, source, toy.short(4), toy.coatnet(), toy.dataset())
  assert restored.averaged
  assert _differing(_variables(state), restored.variables) == set()
  assert int(state.step) == 0
  assert not any(np.any(leaf) for leaf in jax.tree.leaves((state.opt_state, state.ema, state.window)))


def test_the_average_of_a_frozen_part_is_its_weights(toy, source):
  experiment = toy.short(4)
  experiment = dataclasses.replace(experiment, optimizer=dataclasses.replace(experiment.optimizer, freeze="stem"))
  restored, state = _start(toy, source, experiment, toy.coatnet(), toy.dataset())
  ema = {"params": state.ema["params"], **state.ema["model_state"]}
  for collection in ("params", "batch_stats"):
    assert _differing(ema[collection]["stem"], restored.variables[collection]["stem"]) == set()
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.ema["params"]["stage_1"]))


def test_the_head_is_kept_where_the_classes_are_the_same_and_drawn_from_the_seed_where_not(toy, source):
  head = {"params/classifier/logits/kernel", "params/classifier/logits/bias"}
  data = toy.dataset()
  for names, seed in ((("dark", "light", "grey"), 0), (("dark", "grey", "white"), 5)):
    other = dataclasses.replace(data, class_names=names)
    experiment = dataclasses.replace(toy.short(4), seed=seed)
    restored, state = _start(toy, source, experiment, toy.coatnet(), other)
    assert _differing(_variables(state), restored.variables) == head
    fresh = pretrained.replace_head(restored.variables, toy.coatnet(), run_keys(seed)[0])
    assert _differing(_variables(state), fresh) == set()
  more = dataclasses.replace(data, class_names=tuple("abcde"))
  restored, state = _start(toy, source, toy.short(4), toy.coatnet(num_classes=5), more)
  theirs = _flat(restored.variables)
  moved = {path for path, leaf in _flat(_variables(state)).items() if leaf.shape != theirs[path].shape}
  assert moved == head


def test_tables_are_interpolated_to_the_datas_image_size(toy, source):
  larger = adapt(toy.dataset(), image_size=12)
  restored, state = _start(toy, source, toy.short(4), toy.coatnet(), larger)
  resized = pretrained.resize(toy.coatnet(), restored.variables, 12)
  table = "params/stage_2/block_0/attention/bias_table"
  assert _flat(_variables(state))[table].shape == (2, 11, 11)
  assert _flat(restored.variables)[table].shape == (2, 5, 7)
  assert _differing(_variables(state), resized) == set()


@pytest.fixture
def _tiny(monkeypatch):
  monkeypatch.setitem(variants.VARIANTS, "tiny", TINY)


DIGITS = Experiment(
  num_steps=4,
  batch_size=8,
  eval_batch_size=64,
  eval_every=4,
  data=Data(classes="0-4"),
  model=Model("tiny"),
  optimizer=Optimizer(peak_learning_rate=0.02),
  checkpoint=Checkpoint(every=4),
)


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_a_run_starts_where_the_other_ended_and_sees_pictures_as_it_did(tmp_path):
  first = dataclasses.replace(DIGITS, data=Data(classes="0-4", images_per_class=9))
  run(first, tmp_path / "a")
  # Another mean and std than the data set's own, as those of released weights are.
  state = tmp_path / "a" / files.CHECKPOINTS / "4" / "description" / "metadata"
  description = json.loads(state.read_text())
  assert description["preprocessing"]["mean"] == description["mean"]
  description["preprocessing"] |= {"mean": [0.25], "std": [0.5]}
  state.write_text(json.dumps(description))
  write_manifest(state.parents[1])
  still = Optimizer(peak_learning_rate=1e-30, weight_decay=0.0)
  second = dataclasses.replace(first, init_from=str(tmp_path / "a"), num_steps=1, optimizer=still)
  after = run(second, tmp_path / "b")
  restored = restore(tmp_path / "a")
  assert _differing(after.params, restored.variables["params"]) == set()
  identity = files.read_json(tmp_path / "b" / files.CONFIG)[files.IDENTITY]
  assert (identity["data"]["metadata"]["mean"], identity["data"]["metadata"]["std"]) == ([0.25], [0.5])
  assert identity["init_from"]["sha256"] == sha256(restored.variables)
  # And what it leaves behind says so again.
  assert restore(tmp_path / "b").preprocessing == restored.preprocessing


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_another_resolution_and_other_classes_train_from_the_command_line(tmp_path, capsys):
  config = tmp_path / "tiny.py"
  config.write_text(
    "from convattn.training.config import *\n"
    "def get_config():\n"
    "  return Experiment(num_steps=2, batch_size=8, eval_batch_size=64, eval_every=2, checkpoint=Checkpoint(every=2),\n"
    "    model=Model('tiny'), data=Data(classes='0-4'))\n"
  )
  assert main(["train", f"--config={config}", f"--workdir={tmp_path / 'a'}", "--config.explore=0"]) == 0
  tune = [f"--config={config}", f"--config.init_from={tmp_path / 'a'}", "--config.data.classes=5-9"]
  tune += ["--config.data.images_per_class=3", "--config.data.image_size=12", f"--workdir={tmp_path / 'b'}"]
  tune += ["--config.explore=0"]
  assert main(["train", *tune]) == 0
  tuned = restore(tmp_path / "b")
  assert tuned.class_names == tuple("56789")
  assert tuned.preprocessing.image_size == (12, 12)
  capsys.readouterr()
  for wrong, message in (
    ("--config.model.pool=avg", "are of another model (pool: 'max' there, 'avg' now); set model.name"),
    ("--config.optimizer.freeze=stemm", "the model has no part 'stemm'; did you mean stem"),
    (f"--config.init_from={tmp_path / 'c'}", f"there is no folder {tmp_path / 'c'}"),
    ("--config.init_from=coatnet_0_rw_223", "coatnet_0_rw_22"),
  ):
    given = [each for each in tune if each.split("=")[0] != wrong.split("=")[0] and "--workdir" not in each]
    assert main(["train", *given, wrong, f"--workdir={tmp_path / 'wrong'}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_weights_are_read_until_the_run_has_a_checkpoint(toy, source, tmp_path):
  experiment = dataclasses.replace(toy.short(4), init_from=str(tmp_path / "source"))
  shutil.copytree(source, tmp_path / "source")
  folder = tmp_path / "run"
  folder.mkdir()
  first = find_initial(experiment, folder)
  files.write_config(folder, files.Recorded(experiment, {"init_from": first.identity}))
  assert find_initial(experiment, folder).restored is not None
  (folder / files.CHECKPOINTS / "4.orbax-checkpoint-tmp").mkdir(parents=True)  # one that was not completed
  assert find_initial(experiment, folder).restored is not None
  checkpoint = folder / files.CHECKPOINTS / "4"
  checkpoint.mkdir()
  assert find_initial(experiment, folder).restored is not None  # nor one that was not signed
  write_manifest(checkpoint)
  shutil.rmtree(tmp_path / "source")
  later = find_initial(experiment, folder)
  assert later.restored is None
  assert (later.preprocessing, later.identity) == (first.preprocessing, first.identity)
  files.check_config(folder, experiment, {"init_from": later.identity})
  with pytest.raises(UserError, match=r"other model or data \(init_from.sha256: '\w{64}' there, 'another' now\)"):
    files.check_config(folder, experiment, {"init_from": {**later.identity, "sha256": "another"}})


@pytest.mark.slow
def test_a_run_with_a_checkpoint_is_continued_without_its_source_bit_for_bit(toy, source, tmp_path):
  experiment = dataclasses.replace(toy.EXPERIMENT, num_steps=6, init_from=str(tmp_path / "source"))

  class Stop(Exception):
    pass

  def stop():
    raise Stop

  def go(folder, step=None):
    task = toy.Interrupted(toy.dataset(), experiment).at(step, stop)
    return run(experiment, folder, model=toy.coatnet(), task=task)

  shutil.copytree(source, tmp_path / "source")
  whole = go(tmp_path / "whole")
  for step, folder in ((5, "after a checkpoint"), (1, "before one")):
    with pytest.raises(Stop):
      go(tmp_path / folder, step)
  shutil.rmtree(tmp_path / "source")
  assert sha256(go(tmp_path / "after a checkpoint")) == sha256(whole)
  assert sha256(go(tmp_path / "whole")) == sha256(whole)  # a finished one
  with pytest.raises(ValueError, match="there is no folder"):
    go(tmp_path / "before one")
  # Other weights under the same path.
  other = toy.short(1)
  run(other, tmp_path / "source", model=toy.coatnet(), task=ImageClassification(toy.dataset(), other))
  with pytest.raises(UserError, match=r"other model or data \(init_from.sha256: '\w{64}' there, '\w{64}' now\)"):
    go(tmp_path / "before one")


def test_a_run_from_other_weights_goes_on_for_longer_and_without_them(toy, source, tmp_path):
  def go(name, steps):
    experiment = dataclasses.replace(toy.short(steps), init_from=str(tmp_path / "source"))
    task = ImageClassification(toy.dataset(), experiment)
    return run(experiment, tmp_path / name, model=toy.coatnet(), task=task, changes="continue")

  shutil.copytree(source, tmp_path / "source")
  straight = go("straight", 2)
  go("run", 1)
  shutil.rmtree(tmp_path / "source")
  assert sha256(go("run", 2)) == sha256(straight)


def test_a_new_head_is_drawn_from_the_seed_of_the_run(toy, source, tmp_path, monkeypatch):
  def still(*arguments):
    step = lambda state, batch, key: state.replace(step=state.step + 1)  # noqa: E731
    return dataclasses.replace(toy.shared_build(*arguments), train_step=step)

  monkeypatch.setattr(runs, "build", still)
  experiment = dataclasses.replace(toy.short(1), seed=5, init_from=str(source))
  initial = find_initial(experiment, tmp_path)
  task = ImageClassification(dataclasses.replace(toy.dataset(), class_names=tuple("abc")), experiment)
  state = run(experiment, tmp_path, model=toy.coatnet(), task=task)
  fresh = pretrained.replace_head(initial.restored.variables, toy.coatnet(), run_keys(5)[0])
  assert _differing(state.params, fresh["params"]) == set()
  identity = files.read_json(tmp_path / files.CONFIG)[files.IDENTITY]
  assert identity["init_from"]["sha256"] == sha256(initial.restored.variables)


def test_without_init_from_nothing_is_read_and_nothing_is_kept_of_it(toy, finished):
  assert find_initial(toy.EXPERIMENT, finished[0]) is None
  assert set(files.read_json(finished[0] / files.CONFIG)[files.IDENTITY]) == {"model", "data"}


def _model(**fields):
  return CoAtNet(dataclasses.replace(TINY, **fields), num_classes=3)


@pytest.mark.parametrize(
  "model, message",
  [
    (
      _model(pool="avg", head="plain"),
      r"another model \(pool: 'max' there, 'avg' now; head: 'tanh' there, 'plain' now",
    ),
    (_model(stem_widths=(4, 6)), r"another model \(stem_widths: \[4, 4\] there, \[4, 6\] now\); set model.name and"),
    (_model(attention_layer_scale=1e-5), r"\(attention_layer_scale: False there, True now\)"),
  ],
)
def test_another_architecture_is_refused_with_what_differs(toy, source, tmp_path, model, message):
  experiment = dataclasses.replace(toy.short(1), init_from=str(source))
  with pytest.raises(UserError, match=message) as raised:
    run(experiment, tmp_path / "new", model=model, task=ImageClassification(toy.dataset(), experiment))
  assert "\n" not in str(raised.value)
  assert not (tmp_path / "new").exists()


def test_what_concerns_training_or_other_sizes_alone_may_differ(toy, source):
  model = _model(stochastic_depth=0.4, relative_dropout=0.1, table_resize="bilinear")
  restored, state = _start(toy, source, toy.short(4), model, toy.dataset())
  assert _differing(_variables(state), restored.variables) == set()


def test_a_model_of_another_kind_and_other_channels_are_refused(toy, source, tmp_path):
  experiment = dataclasses.replace(toy.short(1), init_from=str(source))
  task = ImageClassification(toy.dataset(), experiment)
  with pytest.raises(UserError, match="init_from needs a model of convattn.list_models.., got Toy"):
    run(experiment, tmp_path / "new", model=toy.Toy(), task=task)
  data = toy.dataset()
  parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
  grey = {name: dataclasses.replace(part, images=part.images[..., :1]) for name, part in parts.items()}
  grey = dataclasses.replace(data, **grey, image_shape=(5, 7, 1), mean=(0.5,), std=(0.5,))
  with pytest.raises(UserError, match="are for images of 2 channels, but the data's have 1; load"):
    run(experiment, tmp_path / "new", model=toy.coatnet(), task=ImageClassification(grey, experiment))
