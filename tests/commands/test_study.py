"""The study command, and studies that come with convattn by name."""

import pytest

from convattn.commands.experiment_file import load_experiment, load_study
from convattn.errors import UserError

PLAIN = """
from convattn.study import Setting, Study
from convattn.training.config import Experiment
def get_study({arguments}):
  return {value}
"""


@pytest.fixture
def file(tmp_path):
  def write(arguments="", value='Study("t", "q", "p", Experiment(), [Setting("a")], [0], ["a"])'):
    path = tmp_path / "mine.py"
    path.write_text(PLAIN.format(arguments=arguments, value=value))
    return path

  return write


def test_a_study_is_found_by_name_and_takes_an_argument(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert (load_study("study_layout").seeds, load_study("study_layout:hour").seeds) == ((0, 1, 2), (0, 1))
  with pytest.raises(UserError, match="did you mean study_layout.*that come with convattn go by name: study_choices"):
    load_study("study_layuot")
  with pytest.raises(UserError, match="go by name: cifar10, digits, ") as raised:
    load_experiment("study_layuot")
  assert "study_layout," not in str(raised.value)


@pytest.mark.parametrize(
  "arguments, said",
  [
    ([], "name one study, such as convattn study study_layout; got none."),
    (["a", "b", "--workdir=x"], "got a b."),
    (["study_layout"], "where to? --workdir=DIR, such as --workdir=runs/study."),
    (["study_layout", "--workdri=x"], "there is no option --workdri; did you mean --workdir"),
    (["study_layout", "--workdir=x", "--config.num_step=3"], "there is no setting 'num_step'; did you mean num_steps?"),
    (["study_layout:day", "--workdir=x"], "the budgets are 'full' and 'hour', got 'day'."),
    (
      ["study_layout", "--workdir=x", "--config.num_steps=3"],
      "--config.num_steps would change nothing in this study: each of its settings has its own; change the study's",
    ),
    (["study_layout", "--workdir=x", "--config.seed=3"], "--config.seed would change nothing in this study: its seeds"),
    (
      ["study_choices", "--workdir=x", "--config.optimizer.peak_learning_rate=0.1"],
      "--config.optimizer.peak_learning_rate would change nothing in this study: each of its settings",
    ),
    (["digits", "--workdir=x"], "there is no study file 'digits'"),
  ],
)
def test_mistakes_are_one_line(refusal, tmp_path, monkeypatch, arguments, said):
  monkeypatch.chdir(tmp_path)
  line, out = refusal("study", *arguments)
  assert said in line and out == ""
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"value": "3"}, "must return a Study, got int."),
    ({"arguments": "budget"}, "takes an argument: FILE:ARGUMENT"),
    ({"value": "Study(1)"}, "line 5: TypeError: "),
    (
      {"value": 'Study("t", "q", "p", Experiment(), [Setting("a")], 3, ["a"])'},
      "line 5: UserError: Study's seeds must be a list, each a whole number, got 3.",
    ),
    ({"value": 'Study("t", "q", "p", Experiment(), [Setting("a")], [], ["a"])'}, "seeds must be one or more numbers"),
    ({"value": 'Study("t", "q", "p", Experiment(), [Setting("a")], [0], [])'}, "must have one baseline"),
  ],
)
def test_a_file_of_no_study_is_one_line(refusal, file, tmp_path, changes, said):
  line, out = refusal("study", file(**changes), f"--workdir={tmp_path / 'study'}")
  assert said in line and out == ""
  assert not (tmp_path / "study").exists()


def test_settings_are_laid_over_the_base(refusal, file, tmp_path):
  line, _ = refusal("study", file(), f"--workdir={tmp_path / 'study'}", "--config.batch_size=9")
  assert line.startswith("setting a: batch_size must be a multiple of the 4 devices, got 9; try 8 or 12.")
