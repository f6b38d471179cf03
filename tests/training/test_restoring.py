"""A trained classifier from what a run left on the disk: the same function, whatever wrote it and where it is read."""

import dataclasses
import functools
import itertools
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from convattn import create_model, pretrained, training
from convattn.errors import UserError
from convattn.models import CoAtNet, Run, Spec, Stage
from convattn.pretrained import tags
from convattn.training import Classifier, ImageClassification, TrainState, make_mesh, restore, restore_classifier
from convattn.training.checkpoints import Checkpoints
from convattn.training.description import describe_model
from convattn.training.manifest import MANIFEST, write_manifest
from convattn.training.sharding import replicated
from convattn.training.state import no_nonfinite
from convattn.training.task import Ranking

STAGES = (Stage((Run("C", 1, 8),), 2), Stage((Run("T", 1, 32),), 1))
MODEL = CoAtNet(Spec(STAGES, (4, 4), stem_stride=1, head_size=8), num_classes=3)


@functools.cache
def shapes_of(model, image_shape):
  image = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
  return dict(jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image))


def draw(seed, model=MODEL, image_shape=(5, 7, 2)):
  """Variables of the right shapes, on every device as a run has them; drawing costs no compilation."""
  shapes = shapes_of(model, image_shape)
  draws = np.random.default_rng(seed)
  values = jax.tree.map(lambda leaf: draws.uniform(0.1, 0.3, leaf.shape).astype(leaf.dtype), shapes)
  return jax.device_put(values, replicated(make_mesh()))


def as_state(variables):
  return {"params": variables["params"], "model_state": {"batch_stats": variables["batch_stats"]}}


def save(toy, folder, *, averaged=True):
  """What a run leaves after 4 and 8 steps; (weights, averaged weights) of the latter, which are drawn from 8 and 9."""
  experiment = toy.short(8)
  task = ImageClassification(toy.dataset(), experiment)
  description = {**task.metadata, "experiment": dataclasses.asdict(experiment), "model": describe_model(MODEL)}
  with Checkpoints(folder / "checkpoints", experiment.checkpoint, Ranking("validation/accuracy")) as checkpoints:
    for step in (4, 8):
      weights, averages = draw(step), draw(step + 1)
      whole = replicated(make_mesh())
      state = TrainState(
        step=jax.device_put(np.int32(step), whole),
        opt_state={"mu": draw(step + 2)["params"]},
        ema=as_state(averages) if averaged else {},
        window={"loss": jax.device_put(np.float32(1), whole)},
        nonfinite=jax.device_put(no_nonfinite(), whole),
        **as_state(weights),
      )
      checkpoints.save(step, state, description, {})
  return weights, averages


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
  """(folder, averaged weights of step 8)."""
  folder = tmp_path_factory.mktemp("trained")
  return folder, save(toy, folder)[1]


@pytest.fixture
def copied(trained, tmp_path):
  """The folder of the last checkpoint, to be changed."""
  return shutil.copytree(trained[0] / "checkpoints" / "8", tmp_path / "8")


def edit(folder, change):
  """Changes the description that lies beside a state, and signs that."""
  path = folder / "description" / "metadata"
  description = json.loads(path.read_text())
  change(description)
  path.write_text(json.dumps(description))
  write_manifest(folder)


def assert_equal(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)


def test_the_averaged_weights_come_back_with_all_that_belongs_to_them(toy, trained):
  folder, averages = trained
  restored = restore(folder)
  assert restored.model == MODEL
  assert_equal(restored.variables, averages)
  assert restored.averaged
  assert restored.preprocessing == toy.dataset().preprocessing
  assert restored.class_names == ("dark", "grey", "light")
  assert restored.experiment == toy.short(8)
  assert (restored.step, restored.source) == (8, str(folder / "checkpoints" / "8"))


def test_a_run_its_checkpoints_and_one_of_them_are_ways_to_say_it(trained, tmp_path, monkeypatch):
  folder = trained[0]
  newest = restore(folder / "checkpoints" / "8")
  monkeypatch.chdir(folder.parent)
  for source in (str(folder), folder / "checkpoints", folder.name):
    assert restore(source).step == 8
    assert_equal(restore(source).variables, newest.variables)
  earlier = restore(folder / "checkpoints" / "4")
  assert earlier.step == 4
  differing = jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), earlier.variables, newest.variables)
  assert any(jax.tree.leaves(differing))
  renamed = shutil.copytree(folder / "checkpoints" / "8", tmp_path / "best one")
  assert restore(renamed).step == 8


def test_an_unfinished_checkpoint_is_not_the_newest(trained, tmp_path):
  folder = shutil.copytree(trained[0], tmp_path / "run")
  (folder / "checkpoints" / "12.orbax-checkpoint-tmp").mkdir()
  (folder / "checkpoints" / "note.txt").write_text("")
  assert restore(folder).step == 8


def test_without_averages_the_weights_are_the_last(toy, tmp_path):
  weights, _ = save(toy, tmp_path, averaged=False)
  for restored in (restore(tmp_path), restore(tmp_path, weights="raw")):
    assert not restored.averaged
    assert_equal(restored.variables, weights)
  message = refused(tmp_path, weights="averaged")
  newest = tmp_path / "checkpoints" / "8"
  assert message == f"weights is 'averaged', but the run of {newest} kept no averages (ema_decay was 0); leave it out."


def test_both_sets_of_weights_can_be_asked_for(trained):
  folder, averages = trained
  for weights, wanted in (("raw", draw(8)), ("averaged", averages)):
    restored = restore(folder, weights=weights)
    assert restored.averaged == (weights == "averaged")
    assert_equal(restored.variables, wanted)
    assert restored.title == f"{folder / 'checkpoints' / '8'}, step 8, {weights} weights"
  assert refused("nowhere/at/all", weights="ema") == "weights must be one of averaged, raw, got 'ema'."


ELSEWHERE = """
import sys, jax
from convattn.training import restore, sha256
assert jax.device_count() == 1
restored = restore(sys.argv[1])
assert {device for leaf in jax.tree.leaves(restored.variables) for device in leaf.devices()} == set(jax.devices())
print(sha256(restored.variables))
"""


def test_one_device_reads_what_four_have_written(trained):
  assert jax.device_count() == 4
  environment = {"PATH": "/usr/bin", "JAX_PLATFORMS": "cpu", "HOME": str(trained[0])}
  done = subprocess.run(
    [sys.executable, "-c", ELSEWHERE, str(trained[0])], env=environment, capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr == ""
  assert done.stdout.split() == [training.sha256(restore(trained[0]).variables)]


def test_the_preprocessing_is_the_one_that_was_stored(copied):
  other = {"image_size": [5, 7], "mean": [0.1, 0.2], "std": [0.3, 0.4], "crop_fraction": 0.5, "crop_mode": "center"}
  edit(copied, lambda description: description.update(preprocessing=other))
  assert restore(copied).preprocessing == pretrained.Preprocessing.from_json(other)


def refused(source, **options):
  with pytest.raises(ValueError) as raised:
    restore(source, **options)
  assert len(str(raised.value).splitlines()) == 1
  return str(raised.value)


@pytest.mark.parametrize(
  ("files", "share"),
  [
    *itertools.product(["description/metadata", "state/_METADATA", "state/manifest.ocdbt", "state/d/*"], [0, 0.5]),
    ("state/ocdbt.process_0/d/*", 0),  # the half that is left might hold all that is wanted
  ],
)
def test_a_truncated_file_is_one_line_and_nothing_else(copied, files, share, capfd):
  truncated = list(copied.glob(files))
  assert truncated
  for path in truncated:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
  message = refused(copied)
  assert message.startswith(f"the checkpoint {copied} is damaged (")
  assert message.endswith("; name another, such as the one before it.")
  # Orbax's threads would write their tracebacks past sys.stderr.
  assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("part", ["description", "state", "state/d", "state/ocdbt.process_0", "state/_METADATA"])
def test_a_missing_part_is_one_line_and_nothing_else(copied, part, capfd):
  path = copied / part
  path.unlink() if path.is_file() else shutil.rmtree(path)
  assert refused(copied).startswith(f"the checkpoint {copied} is damaged (")
  assert capfd.readouterr() == ("", "")


def test_a_flipped_bit_of_the_weights_is_seen(copied):
  path = max((path for path in copied.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  name = path.relative_to(copied).as_posix()
  assert f"is damaged ({name} has another SHA-256 than when it was written)" in refused(copied)


def test_of_a_run_the_newest_that_verifies_is_taken_and_nothing_is_changed(toy, trained, tmp_path, capfd):
  folder = shutil.copytree(trained[0], tmp_path / "run")
  (folder / "checkpoints" / "8" / "state" / "_METADATA").unlink()
  before = toy.snapshot(folder)
  capfd.readouterr()
  assert restore(folder).step == 4
  (line,) = capfd.readouterr().err.splitlines()
  newest = folder / "checkpoints" / "8"
  assert line == f"warning: the checkpoint {newest} is damaged (state/_METADATA is missing); the one before it is used."
  (folder / "checkpoints" / "4" / MANIFEST).write_text("{")
  assert "holds no checkpoint but damaged ones" in refused(folder)
  del before[folder / "checkpoints" / "4" / MANIFEST]
  assert before.items() < toy.snapshot(folder).items()


def unsign(folder):
  """Makes a checkpoint one of a version that wrote no manifests."""
  (folder / MANIFEST).unlink()
  shutil.copy(folder / "metrics" / "metadata", folder / "metrics" / "metrics")


@pytest.mark.parametrize("content", ["[1]", "3", "{}", '{"model": {}}'])
def test_a_description_of_something_else_is_damage(copied, content):
  (copied / "description" / "metadata").write_text(content)
  write_manifest(copied)
  assert "its description has no model or no experiment" in refused(copied)


def test_what_holds_no_checkpoint_says_so(tmp_path, trained):
  assert "is no folder; name a run's workdir" in refused(trained[0] / "checkpoints" / "8" / "commit_success.txt")
  assert f"there is no folder {tmp_path / 'a'}; name a run's workdir" in refused(tmp_path / "a")
  assert f"{tmp_path} holds no checkpoint" in refused(tmp_path)
  (tmp_path / "checkpoints").mkdir()
  assert f"{tmp_path} holds no checkpoint" in refused(tmp_path)


def test_a_checkpoint_of_a_coatnet_and_a_tag_take_no_model(trained, released):
  assert refused(trained[0], model=MODEL).endswith("holds a CoAtNet, which is rebuilt from it; leave model out.")
  assert "'test_coatnet.toy' is a tag, whose model is known; leave model out" in refused(released[0], model=MODEL)


def test_a_task_without_classes_is_no_image_classifier(copied):
  edit(copied, lambda description: description.pop("class_names"))
  assert not isinstance(restore(copied), Classifier)
  with pytest.raises(UserError, match="is a checkpoint of no image classifier; name another"):
    restore_classifier(copied)


def test_weights_of_another_model_do_not_fit(toy, copied):
  def wider(description):
    description["model"]["spec"]["conv_expansion"] = 5

  edit(copied, wider)
  message = refused(copied)
  assert message.startswith(f"the weights of the checkpoint {copied} do not fit its model: ")


def test_names_must_be_as_many_as_logits(copied):
  edit(copied, lambda description: description.update(class_names=["a", "b"]))
  assert not isinstance(restore(copied), Classifier)


def test_a_field_that_no_spec_has_names_the_checkpoint(copied):
  edit(copied, lambda description: description["model"]["spec"].update(colour="red"))
  message = refused(copied)
  assert f"the model of the checkpoint {copied} cannot be rebuilt: " in message
  assert "colour" in message


@pytest.fixture
def released(tmp_path, monkeypatch):
  """(tag, model, variables) of weights in a Hugging Face cache."""
  model = create_model("test_coatnet", 7)
  variables = draw(0, model, (32, 32, 3))
  tag = "test_coatnet.toy"
  row = tags.Tag(tag, pretrained.Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3), num_classes=7)
  monkeypatch.setattr(tags, "TAGS", (*tags.TAGS, row))
  monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
  folder = tmp_path / "hub" / f"models--timm--{tag}" / "snapshots" / "main"
  folder.mkdir(parents=True)
  tensors = {
    name: np.ascontiguousarray(tensor) for name, tensor in pretrained.to_timm("test_coatnet", variables).items()
  }
  safetensors.numpy.save_file(tensors, folder / "model.safetensors")
  return tag, model, variables


def test_a_tag_is_restored_like_a_checkpoint(released, monkeypatch, tmp_path):
  tag, model, variables = released
  restored = restore(tag)
  assert restored.model == model
  assert_equal(restored.variables, variables)
  assert restored.preprocessing.mean == (0.5, 0.5, 0.5)
  assert restored.class_names == tuple(f"imagenet12k_{i}" for i in range(7))
  assert (restored.experiment, restored.step, restored.source, restored.averaged) == (None, None, tag, False)
  assert restored.title == restore(tag, weights="raw").title == tag
  assert "is a tag, which has no averages beside it; leave it out" in refused(tag, weights="averaged")
  monkeypatch.chdir(tmp_path)
  (tmp_path / tag).mkdir()
  assert f"{tag} holds no checkpoint" in refused(tag)  # what is on the disk comes first


def test_weights_with_other_classes_than_the_tag_are_refused(released, monkeypatch):
  tag = released[0]
  rows = [dataclasses.replace(row, num_classes=9) if row.name == tag else row for row in tags.TAGS]
  monkeypatch.setattr(tags, "TAGS", tuple(rows))
  assert f"the weights found for {tag!r} have 7 classes, but those of that tag have 9" in refused(tag)


def test_an_unknown_tag_gives_the_nearest():
  message = refused("coatnet_0_rw_224.sw_in1")
  assert message.startswith("there is no folder 'coatnet_0_rw_224.sw_in1', and timm has no CoAtNet ")
  assert "did you mean coatnet_0_rw_224.sw_in1k" in message


def test_weights_that_nobody_has_trained_are_not_given():
  assert "nobody has published trained weights of 'coatnet_0_224'" in refused("coatnet_0_224")
