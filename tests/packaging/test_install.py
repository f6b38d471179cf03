"""The package as pip installs it."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import convattn

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_of_sources_is_a_package():
  folders = {path.parent.relative_to(ROOT) for path in (ROOT / "convattn").rglob("*.py")}
  packages = {".".join(folder.parts) for folder in folders} | {"convattn.configs"}
  assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(packages)


def test_every_data_file_is_in_the_package():
  declared = PROJECT["tool"]["setuptools"]["package-data"]
  shipped = {
    path
    for name, patterns in declared.items()
    for each in patterns
    for path in (ROOT / name.replace(".", "/")).glob(each)
  }
  files = {path for path in (ROOT / "convattn").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
  assert files == shipped != set()


@pytest.mark.slow
def test_an_installed_package_works_anywhere(tmp_path):
  checkout, target, elsewhere = tmp_path / "checkout", tmp_path / "site", tmp_path / "elsewhere"
  elsewhere.mkdir()
  # From a copy, since a build writes beside its sources.
  unwanted = shutil.ignore_patterns(".*", "__pycache__", "runs", "build")
  shutil.copytree(ROOT, checkout, ignore=unwanted)
  install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", target]
  subprocess.run([*install, checkout], check=True)
  shutil.rmtree(checkout)

  def run(*command):
    environment = {**os.environ, "PYTHONPATH": str(target), "TFDS_DATA_DIR": str(tmp_path)}
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout

  code = "import convattn; print(convattn.__file__, convattn.__version__, len(convattn.list_models()))"
  place, version, models = run(sys.executable, "-c", code).split()
  assert Path(place) == target / "convattn" / "__init__.py"
  assert (version, int(models)) == (convattn.__version__, len(convattn.list_models()))
  assert (target / "convattn" / "py.typed").is_file()
  script = [sys.executable, str(target / "bin" / "convattn")]
  code = "import convattn; print(len(convattn.pretrained.class_names('coatnet_0_rw_224')))"
  assert run(sys.executable, "-c", code) == "1000\n"
  # The default experiment and the index list of the embedded data set come along.
  assert "--config.optimizer.beta1" in run(*script, "train", "--help")
  assert "test 360" in run(*script, "prepare")
  assert not list(elsewhere.iterdir())
