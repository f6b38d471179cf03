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
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from convattn import training
from convattn.data import BrokenPicture, FolderSource
from convattn.pretrained import Preprocessing
from convattn.training import workdir as files
from convattn.training.writer import read_metrics

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
  training.run(experiment, folder, model=toy.coatnet(), task=task)
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


@given(name=st.sampled_from([files.CONFIG, files.RESULT, files.METRICS]), damage=damages())
@budget(max_examples=40, deadline=None, derandomize=True, suppress_health_check=ONCE)
def test_a_workdir_with_a_damaged_file_is_used_or_refused(toy, trained, tmp_path, name, damage):
  experiment, folder, _ = trained
  copy = tmp_path / "copy"
  shutil.rmtree(copy, ignore_errors=True)
  shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(files.CHECKPOINTS))
  (copy / name).write_bytes(damage((copy / name).read_bytes()))
  with refused_in_one_line(training.WorkdirError, naming=copy):
    files.check_config(copy, experiment)
    files.read_result(copy)
    read_metrics(copy / files.METRICS)
