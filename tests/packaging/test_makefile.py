"""`make` from a bare checkout, with a stand-in for Python that writes down what it is asked to do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PYTHON = """#!/bin/sh
# A Python that answers what the Makefile asks of one; pip and modules are only noted in $LOG.
case "$1 $2" in
  "-c "*) exit ${TOO_OLD:-0} ;;
  "--version "*) echo "Python ${FAKE_VERSION:-3.12.0}" ;;
  "-m venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo "venv" >> "$LOG" ;;
  "-m pip") echo "$*" >> "$LOG"; exit ${PIP_STATUS:-0} ;;
  *) for each in "$@"; do printf '[%s]' "$each"; done >> "$LOG"; echo >> "$LOG" ;;
esac
"""


class Checkout:
  def __init__(self, folder):
    self.folder = folder / "a checkout with spaces"
    self.folder.mkdir()
    for name in ("Makefile", "requirements.txt"):
      shutil.copy(ROOT / name, self.folder)
    self.programs = folder / "bin"
    self.programs.mkdir()
    for name in ("sh", "cat", "echo", "rm", "mkdir", "cp", "sed", "expand", "touch", "make", "dirname"):
      (self.programs / name).symlink_to(shutil.which(name))
    self.program("python3", PYTHON)
    self.log = folder / "log"

  def program(self, name, text):
    (self.programs / name).write_text(text)
    (self.programs / name).chmod(0o755)

  def make(self, *arguments, status=0, **environment):
    """Runs make with nothing but our programs; returns what was done and all that was printed."""
    self.log.write_text("")
    done = subprocess.run(
      ["make", *arguments],
      cwd=self.folder,
      env={"PATH": str(self.programs), "LOG": str(self.log), **environment},
      capture_output=True,
      text=True,
      check=False,
    )
    assert (done.returncode == 0) == (status == 0), done.stdout + done.stderr
    return self.log.read_text().splitlines(), done.stdout + done.stderr


@pytest.fixture
def checkout(tmp_path):
  return Checkout(tmp_path)


PYTEST = "[-m][pytest][--numprocesses=2][--dist=loadfile]"
INSTALL = "-m pip install --quiet --disable-pip-version-check --use-pep517 -r requirements.txt "


def test_train_sets_up_once_and_trains(checkout):
  train = "[train.py][--config=configs/digits.py][--workdir=runs/digits]"
  assert checkout.make("train")[0] == ["venv", f"{INSTALL}jax", train]
  assert checkout.make("train")[0] == [train]


def test_settings_reach_the_program(checkout):
  done, _ = checkout.make(
    "train", "WORKDIR=runs/my digits", "CONFIG=my.py", "ARGS=--config.seed=1 --config.num_steps=2"
  )
  assert done[-1] == "[train.py][--config=my.py][--workdir=runs/my digits][--config.seed=1][--config.num_steps=2]"


@pytest.mark.parametrize(
  ("target", "command"),
  [
    ("test", [f"{PYTEST}[-m][not slow]"]),
    ("test-slow", [f"{PYTEST}[-m][slow]"]),
    ("test-all", [f"{PYTEST}[-m][slow or not slow]"]),
    ("lint", ["[-m][ruff][check][.]", "[-m][mypy][convattn]"]),
    ("report", ["[-m][convattn][report][--workdir=runs/digits]"]),
    (".venv", []),
  ],
)
def test_every_target_sets_up_and_does_its_job(checkout, target, command):
  assert checkout.make(target)[0] == ["venv", f"{INSTALL}jax", *command]
  assert checkout.make(target)[0] == command


@pytest.mark.parametrize(("accelerator", "package"), [("cpu", "jax"), ("cuda", "jax[cuda13]"), ("tpu", "jax[tpu]")])
def test_the_accelerator_picks_the_build(checkout, accelerator, package):
  assert checkout.make(".venv", f"ACCELERATOR={accelerator}")[0] == ["venv", INSTALL + package]
  assert checkout.make(".venv")[0] == []
  assert checkout.make(".venv", f"ACCELERATOR={accelerator}")[0] == []


def test_a_gpu_that_answers_is_used_and_one_that_does_not_is_not(checkout):
  checkout.program("nvidia-smi", "#!/bin/sh\nexit 9\n")
  assert checkout.make(".venv")[0] == ["venv", f"{INSTALL}jax"]
  checkout.make("clean")
  checkout.program("nvidia-smi", "#!/bin/sh\nexit 0\n")
  assert checkout.make(".venv")[0] == ["venv", f"{INSTALL}jax[cuda13]"]
  assert checkout.make(".venv", "ACCELERATOR=cpu")[0] == ["venv", f"{INSTALL}jax"]
  assert checkout.make(".venv")[0] == []


def test_newer_requirements_and_an_interrupted_installation_start_over(checkout):
  checkout.make(".venv")
  os.utime(checkout.folder / "requirements.txt", (2**33, 2**33))
  assert checkout.make(".venv", status=2, PIP_STATUS="1")[0] == ["venv", f"{INSTALL}jax"]
  os.utime(checkout.folder / "requirements.txt", (1, 1))
  assert checkout.make(".venv")[0] == ["venv", f"{INSTALL}jax"]
  assert checkout.make(".venv")[0] == []


def test_an_unknown_accelerator_is_one_line(checkout):
  done, output = checkout.make("train", "ACCELERATOR=gpu", status=2)
  assert done == []
  assert "ACCELERATOR is 'gpu'; choose cpu, cuda or tpu" in output


def test_a_python_that_is_too_old_or_missing_is_one_line(checkout):
  done, output = checkout.make("train", status=2, TOO_OLD="1", FAKE_VERSION="3.10.9")
  assert done == []
  assert output.splitlines()[0].startswith("python3 is Python 3.10.9, but convattn needs Python 3.11 or newer")
  assert checkout.make("train", "PYTHON=nopython", status=2)[1].splitlines()[0].startswith("nopython is not found, but")


def test_a_newer_python_beside_an_old_one_is_found(checkout):
  checkout.program("python3", "#!/bin/sh\nexit 1\n")
  checkout.program("python3.12", PYTHON)
  assert checkout.make(".venv")[0] == ["venv", f"{INSTALL}jax"]


def test_another_python_asked_for_makes_another_environment(checkout):
  checkout.make(".venv")
  checkout.program("python3.13", PYTHON.replace("3.12.0", "3.13.0"))
  assert checkout.make(".venv", "PYTHON=python3.13")[0] == ["venv", f"{INSTALL}jax"]
  assert checkout.make(".venv", "PYTHON=python3.13")[0] == []
  assert checkout.make(".venv")[0] == []


def test_help_lists_every_target(checkout):
  done, output = checkout.make()
  assert done == []
  text = (checkout.folder / "Makefile").read_text()
  (phony,) = (line for line in text.splitlines() if line.startswith(".PHONY: "))
  targets = set(phony.removeprefix(".PHONY: ").split()) - {"FORCE"}
  assert {line.split()[0] for line in output.splitlines()[1:]} == targets


def test_ci_runs_every_part_and_fails_if_one_does(tmp_path):
  folder = tmp_path / "a clone"
  (folder / ".ci").mkdir(parents=True)
  shutil.copy(ROOT / ".ci" / "run", folder / ".ci")
  parts = "test lint test-slow"
  for broken in (None, *parts.split()):
    rules = "".join(f"{part}:\n\t@echo did {part}; {'false' if part == broken else 'true'}\n" for part in parts.split())
    (folder / "Makefile").write_text(f".PHONY: {parts}\n{rules}")
    done = subprocess.run([folder / ".ci" / "run"], cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("did")] == [f"did {part}" for part in parts.split()]
    assert (done.returncode == 0) == (broken is None)
    assert lines[-1] == (f"failed: {broken}" if broken else f"passed: {parts}")
