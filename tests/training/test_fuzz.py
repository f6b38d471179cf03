"""Damaged files of every kind end in one line that names them, or change nothing: never in a traceback of their own."""

import contextlib
import dataclasses
import io
import shutil
import warnings

import jax
import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings as budget, strategies as st

from convattn import training
from convattn.data import BrokenPicture, FolderSource
from convattn.errors import UserError
from convattn.models import CoAtNet, Run, Spec, Stage
from convattn.pretrained import Preprocessing
from convattn.training import workdir as files
from convattn.training.writer import read_metrics

pytestmark = pytest.mark.usefixtures("shared_programs", "one_device")

ONCE = [HealthCheck.function_scoped_fixture]


@st.composite
def damages(draw):
  """A function that changes some bytes, cuts them off, adds some, or replaces all; of the bytes of a file."""
  kind = draw(st.sampled_from(["flip", "cut", "add", "replace", "swap"]))
  place = draw(st.floats(0, 1, exclude_max=True))
  bit, noise = draw(st.integers(0, 7)), draw(st.binary(max_size=40))

  def damaged(content):
    at = int(place * len(content))
    if kind == "flip" and content:
      return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]
    if kind == "cut":
      return content[:at]
    if kind == "add":
      return content[:at] + noise + content[at:]
    if kind == "swap":
      return content[at:] + content[:at]
    return noise

  return damaged


@contextlib.contextmanager
def refused_in_one_line(kind, naming):
  """What the block raises is of this kind, one line, and names the file or folder."""
  refusal = None
  try:
    yield
  except kind as error:
    refusal = str(error)
  if refusal is not None:
    assert "\n" not in refusal
    assert str(naming) in refusal


def picture(kind):
  pixels = np.random.default_rng(0).integers(0, 255, (23, 31, 3), np.uint8)
  stream = io.BytesIO()
  PIL.Image.fromarray(pixels).save(stream, kind)
  return stream.getvalue()


PICTURES = {kind: picture(kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")}


@given(kind=st.sampled_from(sorted(PICTURES)), damage=damages())
@budget(max_examples=150, deadline=None, derandomize=True, suppress_health_check=ONCE)
def test_a_picture_is_read_or_named(tmp_path, kind, damage):
  path = tmp_path / f"picture.{kind.lower()}"
  path.write_bytes(damage(PICTURES[kind]))
  source = FolderSource(
    np.array([str(path)], object), np.zeros(1, np.int32), Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3)
  )
  # The warnings are Pillow's, of odd metadata.
  with warnings.catch_warnings(action="ignore"), refused_in_one_line(BrokenPicture, naming=path):
    image = source[0]["image"]
    assert (image.shape, image.dtype) == ((8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
  """(experiment, workdir, variables) of a finished run of a model that can be rebuilt."""
  folder = tmp_path_factory.mktemp("fuzz") / "run"
  experiment = dataclasses.replace(toy.short(4), model=training.Model("coatnet_mini_8"))
  task = training.ImageClassification(toy.dataset(), experiment)
  model = CoAtNet(Spec((Stage((Run("T", 1, 4),), 1),), (4, 4), stem_stride=1, head_size=4), num_classes=3)
  training.run(experiment, folder, model=model, task=task)
  return experiment, folder, training.restore(folder).variables


def read_or_refused(folder, variables):
  """What `restore` gives are the variables; what it refuses takes one line."""
  with refused_in_one_line(ValueError, naming=folder):
    jax.tree.map(np.testing.assert_array_equal, training.restore(folder).variables, variables)
    return True
  return False


def test_an_undamaged_checkpoint_is_read(trained):
  assert read_or_refused(*trained[1:])


@given(data=st.data(), damage=damages())
@budget(max_examples=25, deadline=None, derandomize=True, suppress_health_check=ONCE)
def test_a_checkpoint_is_read_as_it_was_or_refused(trained, tmp_path, data, damage):
  _, folder, variables = trained
  copy = tmp_path / "copy"
  shutil.rmtree(copy, ignore_errors=True)
  shutil.copytree(folder, copy)
  chosen = sorted(path for path in (copy / files.CHECKPOINTS).rglob("*") if path.is_file())
  path = data.draw(st.sampled_from(chosen))
  if data.draw(st.booleans()):
    path.write_bytes(damage(path.read_bytes()))
  else:
    path.unlink()
  read_or_refused(copy, variables)


@pytest.fixture(scope="module")
def interrupted(toy, tmp_path_factory):
  """(experiment, workdir, lines and result) of a finished run, whose workdir is as if it had been killed at step 13."""
  experiment, folder = toy.short(16), tmp_path_factory.mktemp("interrupted") / "run"
  training.run(experiment, folder, model=toy.Toy(), task=training.ImageClassification(toy.dataset(), experiment))
  end = toy.lines(folder), toy.result(folder)
  (folder / files.RESULT).unlink()
  shutil.rmtree(folder / files.CHECKPOINTS / "16")
  assert sorted(path.name for path in (folder / files.CHECKPOINTS).iterdir()) == ["12", "4"]
  return experiment, folder, end


def resumed_like(toy, interrupted, copy, chosen, damage):
  """A run with a damaged checkpoint (None: the file is deleted) ends as the straight one, or in one line."""
  experiment, folder, (lines, result) = interrupted
  shutil.rmtree(copy, ignore_errors=True)
  shutil.copytree(folder, copy)
  paths = sorted(path for path in (copy / files.CHECKPOINTS).rglob("*") if path.is_file())
  path = paths[chosen % len(paths)]
  before = path.read_bytes()
  path.unlink() if damage is None else path.write_bytes(damage(before))
  unchanged = path.exists() and path.read_bytes() == before
  with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.redirect_stdout(io.StringIO()):
    task = training.ImageClassification(toy.dataset(), experiment)
    with refused_in_one_line(UserError, naming=copy):
      training.run(experiment, copy, model=toy.Toy(), task=task)
      assert toy.lines(copy) == lines
      ours, theirs = ({k: v for k, v in each.items() if "best" not in k} for each in (toy.result(copy), result))
      assert ours == theirs
      # The best checkpoint's name may change where that is the one which was damaged.
      assert "/4/" in str(path) or toy.result(copy) == result
  assert "Traceback" not in told.getvalue()
  assert ("does not count" in told.getvalue()) != unchanged or path.name == "manifest.json"
  return told.getvalue()


@given(chosen=st.integers(0, 10**6), damage=st.one_of(st.none(), damages()))
@budget(max_examples=3, deadline=None, derandomize=True, suppress_health_check=ONCE)
def test_a_run_with_a_damaged_checkpoint_ends_as_if_it_were_whole(toy, interrupted, tmp_path, chosen, damage):
  resumed_like(toy, interrupted, tmp_path / "copy", chosen, damage)


@pytest.mark.slow
@given(chosen=st.integers(0, 10**6), damage=st.one_of(st.none(), damages()))
@budget(max_examples=40, deadline=None, derandomize=True, suppress_health_check=ONCE)
def test_many_runs_with_a_damaged_checkpoint_end_as_if_it_were_whole(toy, interrupted, tmp_path, chosen, damage):
  resumed_like(toy, interrupted, tmp_path / "copy", chosen, damage)


@given(name=st.sampled_from([files.CONFIG, files.RESULT, files.METRICS]), damage=damages())
@budget(max_examples=40, deadline=None, derandomize=True, suppress_health_check=ONCE)
def test_a_workdir_with_a_damaged_file_is_used_or_refused(toy, trained, tmp_path, name, damage):
  experiment, folder, _ = trained
  copy = tmp_path / "copy"
  shutil.rmtree(copy, ignore_errors=True)
  shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(files.CHECKPOINTS))
  (copy / name).write_bytes(damage((copy / name).read_bytes()))
  with refused_in_one_line(UserError, naming=copy):
    files.check_config(copy, experiment)
    files.read_result(copy)
    read_metrics(copy / files.METRICS)
