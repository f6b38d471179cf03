"""Experiments from files, and each way in which a file can be wrong."""

from pathlib import Path

import pytest

from convattn.commands.experiment_file import default_file, load_experiment
from convattn.errors import UserError
from convattn.training.config import Experiment, Optimizer

ROOT = Path(__file__).resolve().parents[2]
HEAD = "from convattn.training.config import Experiment, Optimizer\n"


@pytest.fixture
def write(tmp_path):
  def write(text, name="one.py"):
    (tmp_path / name).write_text(HEAD + text)
    return str(tmp_path / name)

  return write


def refusal(reference):
  with pytest.raises(UserError) as refused:
    load_experiment(reference)
  message = str(refused.value)
  assert len(message.splitlines()) == 1
  return message


def test_the_default_file_is_beside_train_py():
  assert default_file() == ROOT / "configs" / "digits.py"
  assert (ROOT / "train.py").is_file()
  assert isinstance(load_experiment(str(default_file())), Experiment)


def test_a_file_returns_its_experiment(write):
  path = write("def get_config(): return Experiment(seed=3, optimizer=Optimizer(beta1=0.5))")
  assert load_experiment(path) == Experiment(seed=3, optimizer=Optimizer(beta1=0.5))


def test_an_argument_reaches_get_config(write):
  path = write("def get_config(text='1'): return Experiment(seed=int(text))")
  assert load_experiment(path).seed == 1
  assert load_experiment(f"{path}:42").seed == 42


def test_a_missing_file_gives_the_nearest(write):
  path = write("", name="digits.py")
  assert "did you mean" in (message := refusal(path.replace("digits", "digit")))
  assert f"{path}? Those that come with convattn go by name: cifar10, digits, digits_8x8, " in message
  nowhere = Path(path).parent / "nowhere"
  assert f"{nowhere} is no folder. Those that come with convattn go by name: cifar10" in refusal(str(nowhere / "x.py"))
  nowhere.mkdir()
  assert f"{nowhere} holds no Python file. Those that come with" in refusal(str(nowhere / "x.py"))
  assert "there is no experiment file" in refusal("")


def test_a_missing_or_wrong_get_config_is_refused(write):
  assert refusal(write("")).endswith("has no function get_config() that returns an Experiment.")
  assert refusal(write("get_config = 3")).endswith("has no function get_config() that returns an Experiment.")
  assert refusal(write("def get_config(): return {}")).endswith("must return an Experiment, got dict.")


def test_a_missing_or_superfluous_argument_is_refused(write):
  assert "get_config(a) of " in (message := refusal(write("def get_config(a): return Experiment()")))
  assert message.endswith("takes an argument: --config=FILE:ARGUMENT.")
  assert refusal(write("def get_config(): return Experiment()") + ":smoke").endswith("does not take 'smoke'.")


def test_an_error_in_the_file_names_its_line(write):
  path = write("\n1 / 0\n")
  assert refusal(path) == f"{path}, line 3: ZeroDivisionError: division by zero"
  path = write("\ndef get_config():\n  return Experiment(1, 2, 3, 4, 5, 6, 7,\n  8 / 0)")
  assert refusal(path).startswith(f"{path}, line 5: ZeroDivisionError")
  path = write("\ndef get_config(:\n")
  assert refusal(path).startswith(f"{path}, line 3: SyntaxError: ")


def test_a_wrong_field_in_the_file_gives_the_nearest(write):
  message = refusal(write("def get_config(): return Experiment(optimizer=Optimizer(peak_learning=1))"))
  assert "line 2: TypeError: " in message
  assert message.endswith("did you mean peak_learning_rate?")
