"""Experiments that come with convattn, by name."""

import pytest

from convattn import create_model
from convattn.commands import experiment_file
from convattn.commands.experiment_file import default_file, load_experiment
from convattn.errors import UserError


def test_they_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  beside = default_file().parent
  assert load_experiment("finetune") == load_experiment(str(beside / "finetune.py"))
  assert load_experiment("finetune:pretrain") == load_experiment(f"{beside / 'finetune.py'}:pretrain")


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "digits").write_text(default_file().with_name("finetune.py").read_text())
  assert load_experiment("digits") == load_experiment("finetune")


def test_an_installed_package_has_its_own(tmp_path, monkeypatch):
  (tmp_path / "digits.py").write_text(default_file().with_name("finetune.py").read_text())
  monkeypatch.setattr(experiment_file, "default_file", lambda: tmp_path / "digits.py")
  assert load_experiment("digits").num_steps == 30


def test_a_mistyped_name_gives_the_nearest(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError) as raised:
    load_experiment("finetun")
  assert "'finetun'; did you mean finetune or imagenet_finetune? Those that come with convattn" in str(raised.value)
  assert "cifar10, digits, digits_8x8, distant_marks, fashion_mnist, finetune, " in str(raised.value)


@pytest.mark.parametrize("name", ["dtype", "param_dtype"])
@pytest.mark.parametrize("value", ["fp16", "int32", 16, ""])
def test_a_dtype_that_is_none_is_refused_with_what_is_wanted(name, value):
  with pytest.raises(UserError, match=f"^{name} is {value!r}, but must be a floating-point dtype such as float32"):
    create_model("coatnet_0", 10, **{name: value})
