"""`convattn NAME ...`, `python -m convattn NAME ...`: one thin module for each command."""

import importlib
import sys
from collections.abc import Sequence

from convattn.commands import compilation_cache, environment
from convattn.errors import UserError, nearest, one_line
from convattn.training import output

COMMANDS = {
  "train": "train an experiment and draw its figures",
  "study": "compare settings over seeds, in one table",
  "prepare": "prepare a data set and count its examples",
  "evaluate": "score a checkpoint or released weights on a data set",
  "predict": "the classes of pictures, by name",
  "export": "one file that runs a model wherever JAX is",
  "summary": "what a model costs, stage by stage",
  "explore": "one page on which you see what a model looks at",
  "report": "draw the figures of a training again, or compare several",
  "figure": "draw a view of an explore page as a PDF for a paper",
}
"""Each command and what it does; `convattn.commands.NAME.run(arguments)` carries it out."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs a command and returns the exit status: 0, or 2 after one line on stderr that says what to change.

  That line is the message of a UserError, of an OSError (the disk or the network did not do what was asked), or of a
  FloatingPointError (a loss that diverged, logits that are not finite). Anything else that is raised is a fault of ours
  and keeps its traceback. Ctrl-C gives 130; an output whose reader has ended (`| head`) 141, as a shell has it.

  Args:
    arguments: the command's name and its own arguments; None: those of the process.
  """
  name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
  try:
    with output.guarded():
      return _carried_out(name, rest)
  except output.OutputLost as error:
    if error.is_left:
      return 141
    with output.guarded():
      print(f"convattn {name}: cannot write the output ({error.strerror}).", file=sys.stderr)
    return 2


def _carried_out(name: str, rest: list[str]) -> int:
  if name in ("", "-h", "--help"):
    print(_help(), file=sys.stdout if name else sys.stderr)
    return 0 if name else 2
  try:
    if name not in COMMANDS:
      meant = " or ".join(nearest(name, COMMANDS))
      raise UserError(f"there is no command {name!r}; did you mean {meant}? Try convattn --help.")
    if not {"-h", "--help"} & set(rest):
      environment.check_flags()
    # Imported here, so that --help and typing errors cost nothing.
    with environment.explained(), compilation_cache.kept():
      importlib.import_module(f"convattn.commands.{name}").run(rest)
  except output.OutputLost:
    raise
  except (UserError, OSError, FloatingPointError) as error:
    print(f"convattn {name}: {one_line(error)}", file=sys.stderr)
    return 2
  except KeyboardInterrupt as interruption:
    print(f"convattn {name}: {str(interruption) or 'interrupted'}", file=sys.stderr)
    return 130
  return 0


def _help() -> str:
  rows = "\n".join(f"  {name:<8} {meaning}" for name, meaning in COMMANDS.items())
  return f"convattn NAME [--option=value ...]\n\n{rows}\n\n`convattn NAME --help` lists the options of one."
