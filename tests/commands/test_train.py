"""The train command: what it asks of `training.run`, what it refuses before, and what it draws after."""

import contextlib
import io
import json
import shlex
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings as budget, strategies as st

from convattn import training
from convattn.commands import main, train
from convattn.commands.experiment_file import default_file, load_experiment
from convattn.errors import UserError
from convattn.training.config import Experiment
from convattn.training.settings import settings


def refusal(*arguments):
  with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()) as out:
    status = main(["train", *arguments])
  assert status == 2
  assert out.getvalue() == ""
  assert err.getvalue().count("\n") == 1
  return err.getvalue().removeprefix("convattn train: ").rstrip()


def test_without_arguments_it_is_the_default_experiment():
  assert train.parse([]) == (load_experiment(str(default_file())), Path("runs/digits"))


def test_the_command_line_comes_after_the_file(tmp_path):
  path = tmp_path / "a.py"
  path.write_text(
    "from convattn.training.config import Experiment\ndef get_config(): return Experiment(seed=3, batch_size=8)"
  )
  options = [("config.seed", "4"), ("workdir", str(tmp_path / "run")), ("config", str(path))]
  assert train.parse(options) == (Experiment(seed=4, batch_size=8), tmp_path / "run")


@given(name=st.sampled_from([name for name, _, _ in settings(Experiment())]), text=st.text())
@budget(max_examples=100)
def test_any_text_for_any_setting_is_accepted_or_one_line(name, text):
  with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()) as out:
    status = main(["train", f"--config.{name}={text}", "--help"])
  if status == 0:
    assert f"--config.{name} " in out.getvalue()
  else:
    assert status == 2
    assert len(err.getvalue().splitlines()) == 1


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("--config.loss.kind=hinge", "loss.kind must be one of 'softmax', 'sigmoid', got 'hinge'"),
    ("--config.seed=-1", "seed must be at least 0 and below 2**32, got -1."),
    ("--config.seed=x", "seed must be a whole number, got 'x'."),
    ("--continue=true", "--continue takes no value; write --continue alone."),
    ("--confg=a.py", "there is no option --confg; did you mean --config?"),
    ("--batch_size=3", "there is no option --batch_size; did you mean --config.batch_size"),
    ("--config=configs/nowhere.py", "there is no experiment file 'configs/nowhere.py'"),
    ("--config.model.name=coatnet_mini", "there is no model 'coatnet_mini'; did you mean coatnet_mini_"),
    ("--config.model.head_size=7", "head_size is 7, but must divide"),
    ("--config.model.pool=median", "model.pool must be one of 'max', 'avg', 'max3x3', got 'median'"),
    ("--config.batch_size=7", "batch_size must be a multiple of the 4 devices, got 7; try 4 or 8."),
    ("--config.data.name=digit", "unknown data set 'digit'; did you mean 'digits'?"),
  ],
)
def test_a_wrong_setting_is_one_line_and_leaves_no_workdir(tmp_path, argument, message):
  workdir = tmp_path / "run"
  assert refusal(argument, f"--workdir={workdir}").startswith(message)
  assert not workdir.exists()


def test_a_workdir_that_is_a_file_or_of_another_run_is_refused(tmp_path):
  (tmp_path / "file").write_text("")
  data = f"--config.data.dir={tmp_path}"
  assert str(tmp_path / "file") in refusal(f"--workdir={tmp_path / 'file'}", data)
  (tmp_path / "config.json").write_text(json.dumps({"seed": 77}))
  assert "seed: 77 there, 0 now" in refusal(f"--workdir={tmp_path}", data)


commands = []
"""What `fake_run` was told to say."""


@pytest.fixture
def fake_run(monkeypatch):
  calls = []

  def run(experiment, workdir, changes, trace_steps, command):
    commands.append(command)
    calls.append((experiment, workdir, changes, trace_steps))
    workdir.mkdir(exist_ok=True)
    (workdir / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.5}\n')

  monkeypatch.setattr(training, "run", run)
  return calls


def test_it_trains_then_draws_what_lies_on_the_disk(tmp_path, capsys, fake_run):
  status = main(["train", f"--workdir={tmp_path / 'run'}", "--config.seed=5", f"--config.data.dir={tmp_path}"])
  assert status == 0
  ((experiment, workdir, changes, trace_steps),) = fake_run
  assert (experiment.seed, workdir, changes, trace_steps) == (5, tmp_path / "run", "refuse", 0)
  assert capsys.readouterr().out == f"{tmp_path / 'run' / 'curves.png'}\n"
  assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_reproducible_kernels_are_asked_for_before_a_backend_starts(tmp_path, monkeypatch):
  order = []

  def mesh(**_):
    order.append("mesh")
    raise UserError("far enough")

  monkeypatch.setattr("convattn.training.runs.request_deterministic_kernels", lambda: order.append("flag"))
  monkeypatch.setattr("convattn.training.runs.make_mesh", mesh)
  where = [f"--workdir={tmp_path / 'run'}", f"--config.data.dir={tmp_path}"]
  assert refusal(*where) == "far enough"
  assert order == ["mesh"]
  assert refusal(*where, "--config.compute.deterministic=true") == "far enough"
  assert order == ["mesh", "flag", "mesh"]


def test_a_diverged_loss_is_one_line_but_a_bug_is_not(tmp_path, monkeypatch):
  def diverged(*_, **__):
    raise FloatingPointError("train/loss is nan")

  def broken(*_, **__):
    raise ValueError("shapes do not match")

  where = [f"--workdir={tmp_path / 'run'}", f"--config.data.dir={tmp_path}"]
  monkeypatch.setattr(training, "run", diverged)
  assert refusal(*where) == "train/loss is nan"
  monkeypatch.setattr(training, "run", broken)
  with pytest.raises(ValueError, match="shapes do not match"):
    main(["train", *where])


def test_a_lack_of_memory_is_one_line_with_what_to_lower(tmp_path, monkeypatch):
  def raises(make):
    def run(*_, **__):
      make()

    return run

  def of_python():
    raise MemoryError("Unable to allocate 22.4 GiB")

  where = [f"--workdir={tmp_path / 'run'}", f"--config.data.dir={tmp_path}"]
  monkeypatch.setattr(training, "run", raises(of_python))
  assert refusal(*where).startswith("this machine has too little memory (Unable to allocate 22.4 GiB); lower")
  monkeypatch.setattr(training, "run", raises(lambda: jax.block_until_ready(jnp.zeros((2**50,), jnp.int8))))
  assert refusal(*where).startswith("the device has too little memory (RESOURCE_EXHAUSTED")

  def ours():
    raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

  monkeypatch.setattr(training, "run", raises(ours))
  with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
    main(["train", *where])


def test_a_workdir_that_cannot_be_used_is_one_line(tmp_path, monkeypatch):
  def in_use(*_, **__):
    raise UserError("another run is working in there")

  where = [f"--workdir={tmp_path / 'run'}", f"--config.data.dir={tmp_path}"]
  monkeypatch.setattr(training, "run", in_use)
  assert refusal(*where) == "another run is working in there"
  monkeypatch.undo()
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.json").write_text("{")
  assert "config.json is damaged" in refusal(*where)


@pytest.mark.parametrize(
  ("started", "name"),
  [
    ("./train.py", "python train.py"),
    ("a/__main__.py", "python -m convattn train"),
    ("bin/convattn", "convattn train"),
  ],
)
def test_the_run_is_told_the_command_as_a_shell_takes_it(tmp_path, fake_run, monkeypatch, started, name):
  monkeypatch.setattr(sys, "argv", [started])
  arguments = [f"--workdir={tmp_path / 'a run'}", "--continue", "--config.seed", "5"]
  assert main(["train", *arguments]) == 0
  assert commands[-1].startswith(f"{name} ")
  assert shlex.split(commands[-1].removeprefix(f"{name} ")) == arguments


def test_profile_asks_for_a_timeline(tmp_path, fake_run):
  assert main(["train", "--profile", f"--workdir={tmp_path / 'run'}", f"--config.data.dir={tmp_path}"]) == 0
  assert fake_run[0][-1] == train.TRACE_STEPS > 0


def test_continue_asks_for_the_changes(tmp_path, fake_run):
  assert main(["train", f"--workdir={tmp_path / 'run'}", "--continue", f"--config.data.dir={tmp_path}"]) == 0
  assert fake_run[0][-2:] == ("continue", 0)


def test_a_run_that_was_asked_to_end_says_so(tmp_path, monkeypatch, capsys):
  where = [f"--workdir={tmp_path / 'run'}", f"--config.data.dir={tmp_path}"]

  def terminated(*_, **__):
    raise training.Terminated("stopped after step 3 of 9")

  def interrupted(*_, **__):
    raise KeyboardInterrupt("stopped after step 4 of 9")

  monkeypatch.setattr(training, "run", terminated)
  assert main(["train", *where]) == 0
  assert capsys.readouterr().out == "stopped after step 3 of 9\n"
  monkeypatch.setattr(training, "run", interrupted)
  assert main(["train", *where]) == 130
  assert capsys.readouterr().err == "convattn train: stopped after step 4 of 9\n"


def test_a_finished_run_is_not_asked_about_its_batches(tmp_path):
  where = [f"--workdir={tmp_path / 'run'}", f"--config.data.dir={tmp_path}", "--config.batch_size=7"]
  assert "multiple of the 4 devices" in refusal(*where)
  assert not (tmp_path / "run").exists()
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "result.json").write_text("{}")
  assert "result.json is damaged (numbers are missing)" in refusal(*where)


def test_a_wrong_group_in_the_file_is_one_line(tmp_path):
  path = tmp_path / "a.py"
  path.write_text(
    "from convattn.training.config import Experiment\ndef get_config(): return Experiment(loss='sigmoid')"
  )
  assert refusal(f"--config={path}") == "loss must be Loss(...), a group of settings, got 'sigmoid'."


def test_help_shows_the_values_that_the_options_give(capsys):
  assert main(["train", "--config.seed=41", "--help"]) == 0
  assert "int = 41 " in capsys.readouterr().out
  with pytest.raises(UserError):
    train.run(["--config.seed=x", "--help"])


@pytest.mark.slow
def test_a_short_run_leaves_its_files_and_a_second_one_prints_the_result(tmp_path, capsys):
  workdir = tmp_path / "run"
  arguments = ["train", f"--workdir={workdir}", f"--config.data.dir={tmp_path}"]
  short = {"num_steps": 4, "batch_size": 8, "eval_batch_size": 120, "log_every": 2, "optimizer.warmup_steps": 1}
  short["explore"] = 2
  arguments += [f"--config.{name}={value}" for name, value in short.items()]
  assert main(arguments) == 0
  out = capsys.readouterr().out
  assert out.splitlines()[0] == "4 × cpu | float32 | matmul precision default"
  drawn = ("curves.png", "confusion.png", "mistakes.png")
  page = f"{workdir / 'explore.html'}: what the model looks at; open it in a browser"
  assert out.splitlines()[-4:] == [*(str(workdir / name) for name in drawn), page]
  files = {"config.json", "metrics.jsonl", "result.json", "confusion.json", "mistakes.json", "README.md", *drawn}
  files.add("explore.html")
  told = (workdir / "README.md").read_text().partition("- files: ")[2].splitlines()[0]
  assert all(f"`{name}`" in told for name in files - {"README.md"})
  assert files | {"checkpoints"} <= {path.name for path in workdir.iterdir()}
  drawn = (*drawn, "explore.html")
  pictures = [(workdir / name).read_bytes() for name in drawn]
  stored = json.loads((workdir / "result.json").read_text())
  assert stored["test/count"] == 360

  assert main(arguments) == 0
  assert "finished run" in capsys.readouterr().out
  assert json.loads((workdir / "result.json").read_text()) == stored
  assert main(["report", f"--workdir={workdir}"]) == 0
  assert [(workdir / name).read_bytes() for name in drawn] == pictures
