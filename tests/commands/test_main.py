"""The commands from outside: what is printed where, and the exit status."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

from convattn import commands
from convattn.training import restoring

ROOT = Path(__file__).resolve().parents[2]


def call(capsys, *arguments):
  status = commands.main(list(arguments))
  return status, *capsys.readouterr()


def test_help_lists_every_command(capsys):
  status, out, err = call(capsys, "--help")
  assert (status, err) == (0, "")
  assert all(f"  {name} " in out for name in commands.COMMANDS)
  assert call(capsys) == (2, "", out)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_has_help(capsys, name):
  status, out, err = call(capsys, name, "--help")
  assert (status, err) == (0, "")
  assert out.startswith(("convattn " + name, "python train.py"))


def test_an_unknown_command_gives_the_nearest(capsys):
  status, out, err = call(capsys, "trian")
  assert (status, out) == (2, "")
  assert err == "convattn trian: there is no command 'trian'; did you mean train? Try convattn --help.\n"
  assert f"did you mean {' or '.join(commands.COMMANDS)}?" in call(capsys, "xyz")[2]


def test_an_interruption_is_no_traceback(capsys, monkeypatch):
  def interrupted(arguments):
    raise KeyboardInterrupt

  monkeypatch.setattr("convattn.commands.report.run", interrupted)
  assert call(capsys, "report") == (130, "", "convattn report: interrupted\n")


def test_a_bug_keeps_its_traceback(monkeypatch):
  def broken(arguments):
    raise ValueError("not the user's")

  monkeypatch.setattr("convattn.commands.report.run", broken)
  with pytest.raises(ValueError, match="not the user's"):
    commands.main(["report"])


@pytest.mark.parametrize("program", [["train.py"], ["-m", "convattn", "train"]])
def test_every_way_in_refuses_alike(program):
  done = subprocess.run(
    [sys.executable, *program, "--config.optimizer.peak_lr=1"], cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert done.returncode == 2
  assert done.stdout == ""
  assert done.stderr.startswith("convattn train: there is no setting 'optimizer.peak_lr'; did you mean optimizer.peak_")
  assert done.stderr.count("\n") == 1


HEAVY = {"matplotlib", "orbax", "tensorflow_datasets", "optax", "sklearn", "tqdm", "tensorboardX", "grain"}


@pytest.mark.parametrize(
  ("calls", "heavy"),
  [
    ([["--help"], ["prepare", "--help"], ["predict", "--help"], ["predict", "--checkpoint=x", "no.png"]], {"jax"}),
    # A model's settings are the fields of its spec, whose choices are those of the layers.
    ([["train", "--help"], ["train", "--config.x=1"], ["evaluate", "--checkpoint=x", "--config.data.x=1"]], set()),
  ],
)
def test_help_and_mistakes_load_nothing_heavy(calls, heavy):
  code = (
    "import sys, convattn; before = set(sys.modules)\n"
    "from convattn.commands import main\n"
    f"for call in {calls}: main(call)\n"
    "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}), file=sys.stderr)"
  )
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
  loaded = set(done.stderr.splitlines()[-1].split())
  assert "difflib" in loaded | set(sys.stdlib_module_names)
  assert loaded & (HEAVY | heavy) == set()


@pytest.mark.parametrize("command", ["evaluate", "predict", "export"])
def test_every_use_of_a_model_tells_a_lack_of_memory_in_one_line(command, capsys, tmp_path, monkeypatch):
  def raises(*_, **__):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

  (tmp_path / "a.png").touch()
  monkeypatch.setattr(restoring, "restore_classifier", raises)
  rest = {"predict": [tmp_path / "a.png"], "export": [f"--out={tmp_path / 'a'}"]}.get(command, [])
  status, _, err = call(capsys, command, "--checkpoint=somewhere", *map(str, rest))
  assert status == 2
  assert err.startswith(f"convattn {command}: the device has too little memory (RESOURCE_EXHAUSTED: Out of memory all")
  assert len(err.splitlines()) == 1
