"""Splits a command line into options: `--name=value` and `--name value`."""

from collections.abc import Collection, Iterable, Sequence

from convattn.commands.errors import UsageError
from convattn.training.overrides import nearest_names


def split_options(arguments: Sequence[str]) -> list[tuple[str, str]]:
  """(name without dashes, value) of each option, in order.

  A value of its own that begins with two dashes is written behind an equals sign.

  Raises:
    UsageError: something that is no option, or an option without a value.
  """
  options = []
  remaining = iter(arguments)
  for argument in remaining:
    if not argument.startswith("--") or argument == "--":
      raise UsageError(f"expected an option such as --name=value, got {argument!r}.")
    name, equals, value = argument[2:].partition("=")
    if not equals:
      following = next(remaining, None)
      if following is None or following.startswith("--"):
        raise UsageError(f"--{name} needs a value: --{name}=VALUE.")
      value = following
    options.append((name, value))
  return options


def named_options(
  options: Iterable[tuple[str, str]], known: Collection[str], related: Iterable[str] = ()
) -> dict[str, str]:
  """The options as a mapping.

  Args:
    options: as `split_options` returns them.
    known: the names an option may have.
    related: other names to suggest where an option has none of the known ones.

  Raises:
    UsageError: a name that is not among the `known` ones, with the nearest; or one that is given twice.
  """
  values: dict[str, str] = {}
  for name, value in options:
    if name not in known:
      nearest = " or ".join(f"--{each}" for each in nearest_names(name, [*known, *related]))
      raise UsageError(f"there is no option --{name}; did you mean {nearest}?")
    if name in values:
      raise UsageError(f"--{name} is given twice; keep one.")
    values[name] = value
  return values
