"""An experiment from a file such as configs/digits.py."""

import inspect
import re
import runpy
import traceback
from pathlib import Path
from typing import Any, TypeVar

from convattn.errors import UserError, nearest, one_line
from convattn.study.definition import Study
from convattn.training.config import Experiment
from convattn.training.settings import settings

T = TypeVar("T")


def default_file() -> Path:
  """configs/digits.py: beside train.py in a checkout, inside the package where that was installed without one."""
  package = Path(__file__).parents[1]
  beside_train = package.parent / "configs" / "digits.py"
  # An unrelated `configs` may lie beside an installed package; beside ours lies train.py.
  in_checkout = beside_train.is_file() and (package.parent / "train.py").is_file()
  return beside_train if in_checkout else package / "configs" / "digits.py"


STUDY = "study_"
"""What the names of shipped files begin with that describe a study."""


def load_experiment(reference: str) -> Experiment:
  """The experiment that `get_config()` of a file returns.

  Args:
    reference: the file's path, or the name of a shipped one, "finetune"; "PATH:TEXT" calls `get_config("TEXT")`.

  Raises:
    UserError: no such file, with the nearest of its directory; an error in it, with its line; no get_config; or a
      result that is no Experiment.
  """
  path, function, arguments = _function(reference, "get_config", "an Experiment", "--config=FILE:ARGUMENT")
  return _returned(path, function, arguments, Experiment)


def load_study(reference: str) -> Study:
  """The `convattn.study.Study` that `get_study()` of a file returns; arguments and errors as `load_experiment`."""
  path, function, arguments = _function(reference, "get_study", "a Study", "FILE:ARGUMENT")
  return _returned(path, function, arguments, Study)


def _function(reference: str, name: str, result: str, form: str) -> tuple[Path, Any, list[str]]:
  """(path of the file, its function `name`, the arguments that the reference gives it)."""
  path, argument = _split(reference, name == "get_study")
  try:
    function = runpy.run_path(str(path)).get(name)
  except Exception as error:  # whatever the user's file raises
    raise UserError(_located(path, error)) from error
  if not callable(function):
    raise UserError(f"{path} has no function {name}() that returns {result}.")
  arguments = [] if argument is None else [argument]
  try:
    inspect.signature(function).bind(*arguments)
  except TypeError as error:
    wanted = f"takes an argument: {form}" if argument is None else f"does not take {argument!r}"
    raise UserError(f"{name}{inspect.signature(function)} of {path} {wanted}.") from error
  return path, function, arguments


def _returned(path: Path, function: Any, arguments: list[str], kind: type[T]) -> T:
  try:
    value = function(*arguments)
  except Exception as error:  # as above
    raise UserError(_located(path, error)) from error
  if not isinstance(value, kind):
    wanted = f"{'an' if kind is Experiment else 'a'} {kind.__name__}"
    raise UserError(f"{function.__name__}() of {path} must return {wanted}, got {type(value).__name__}.")
  return value


def _split(reference: str, of_study: bool) -> tuple[Path, str | None]:
  path, argument = Path(reference).expanduser(), None
  if not path.is_file() and ".py:" in reference:
    before, _, argument = reference.partition(".py:")
    path = Path(f"{before}.py").expanduser()
  if path.is_file():
    return path, argument
  files = sorted(default_file().parent.glob("*.py"))
  shipped = {each.stem: each for each in files if each.stem != "__init__" and each.stem.startswith(STUDY) == of_study}
  name, colon, rest = reference.partition(":")
  if name in shipped:
    return shipped[name], rest if colon else None
  siblings = [each.name for each in sorted(path.parent.glob("*.py"))]
  meant = [str(path.parent / each) for each in nearest(path.name, siblings)] if siblings else []
  if path.parent == Path() and path.suffix != ".py":
    meant = nearest(name, shipped)
  advice = f"did you mean {' or '.join(meant)}? " if meant else ""
  if not meant:
    advice = f"{path.parent} {'holds no Python file' if path.parent.is_dir() else 'is no folder'}. "
  names = ", ".join(shipped)
  kind = "study" if of_study else "experiment"
  raise UserError(f"there is no {kind} file {str(path)!r}; {advice}Those that come with convattn go by name: {names}.")


def _located(path: Path, error: Exception) -> str:
  """File, line and message on one line; for a setting that does not exist, the nearest ones too."""
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
  line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
  place = str(path) if line is None else f"{path}, line {line}"
  return f"{place}: {type(error).__name__}: {one_line(error)}{_hint(error)}"


def _hint(error: Any) -> str:
  unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error)) if isinstance(error, TypeError) else None
  if unexpected is None:
    return ""
  names = sorted({part for name, _, _ in settings(Experiment()) for part in name.split(".")})
  return f"; did you mean {' or '.join(nearest(unexpected[1], names))}?"
