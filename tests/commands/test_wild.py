"""Wild settings and broken pictures: one clear line, or a run that is ready for its first step; see wild.py."""

import pathlib
import shutil
import sys

import pytest
from hypothesis import HealthCheck, given, settings as budget, strategies as st

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import wild

WAYS = st.sampled_from([wild.command_line, wild.in_a_file])
FUZZ = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  with wild.harness(tmp_path_factory.mktemp("wild")) as folder:
    yield folder


@given(chosen=wild.wild(), write=WAYS)
@budget(max_examples=8, **FUZZ)
def test_wild_settings_are_one_line_or_a_run_that_can_begin(place, chosen, write):
  wild.check(place, chosen, write)


@pytest.mark.slow
@given(chosen=wild.wild(), write=WAYS)
@budget(max_examples=60, **FUZZ)
def test_many_wild_settings_are_one_line_or_a_run_that_can_begin(place, chosen, write):
  wild.check(place, chosen, write)


@pytest.mark.parametrize(
  ("chosen", "line"),
  [
    ({"batch_size": "3000000000"}, "batch_size must be at most 1048576, got 3000000000."),
    ({"num_steps": "3000000000"}, "num_steps must be at most 2147483647, got 3000000000."),
    ({"augmentation.crop_padding": "9" * 30}, "augmentation.crop_padding must be at most 1024, got 999"),
    ({"data.workers": "99999"}, "data.workers must be at most 1024, got 99999."),
    ({"optimizer.peak_learning_rate": "1e300"}, "optimizer.peak_learning_rate must be 0 or 1.2e-38 to 3.4e+38 in size"),
    ({"optimizer.epsilon": "1e-300"}, "optimizer.epsilon must be 0 or 1.2e-38 to 3.4e+38 in size"),
    ({"data.classes": "0-99999999999"}, "classes must be labels of up to 6 digits, got '0-99999999999'."),
  ],
)
@pytest.mark.parametrize("write", [wild.command_line, wild.in_a_file])
def test_numbers_that_no_machine_can_hold_are_one_line(place, chosen, line, write):
  assert wild.check(place, chosen, write).startswith(f"convattn train: {line}")


def spoiled(folder, content, broken):
  """What becomes of a run whose first picture, of three of its class, has this content."""
  shutil.rmtree(folder / "spoiled", ignore_errors=True)
  shutil.copytree(folder / "pictures", folder / "spoiled")
  (folder / "spoiled" / "train" / "cat" / "0.png").write_bytes(content)
  chosen = {"data.name": "folder", "data.dir": "{root}/spoiled", "data.image_size": "8", "data.broken": broken}
  line = wild.outcome(folder, wild.command_line(folder, chosen, folder / "new"))
  if line is not None:
    assert broken == "stop"
    assert "spoiled/train/cat/0.png" in line
    assert not any((folder / "new").rglob("*"))
  shutil.rmtree(folder / "new", ignore_errors=True)


@pytest.mark.slow
@given(data=st.data(), kind=st.sampled_from(["JPEG", "PNG"]), broken=st.sampled_from(["stop", "skip"]))
@budget(max_examples=20, **FUZZ)
def test_a_run_on_a_spoiled_picture_names_it_or_can_begin(place, data, kind, broken):
  content = bytearray(wild.picture(kind))
  for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)):
    content[at] = value
  spoiled(place, bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]), broken)
