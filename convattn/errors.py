"""A user's mistake is one class of error, told in one line; and what a mistyped name may have meant."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
  """What was asked for cannot be done as asked: a setting, a name, a file, weights that do not fit.

  The message is one line with the value given, the value wanted and what to do. A command prints it alone; any other
  exception is a fault of ours and keeps its traceback.
  """


def one_line(error: BaseException | str, longest: int | None = None) -> str:
  """The text of an error on one line, cut off after `longest` characters."""
  return " ".join(str(error).split())[:longest]


def nearest(name: str, known: Iterable[str]) -> list[str]:
  """Up to three of the `known` names that `name` may have meant, best first; at least one if there are any.

  Where none is alike and they are at most twelve, all of them.

  Dotted names ("optimizer.beta1") are alike as a whole, or in their last part alone.
  """
  wanted = name.rpartition(".")[2]

  def likeness(candidate: str) -> float:
    leaf = candidate.rpartition(".")[2]
    initials = "".join(word[:1] for word in leaf.split("_"))
    # A name without its section, cut short ("batch") or by its initials ("lr") is still meant.
    shortened = (len(wanted) > 3 and wanted in leaf) or (len(wanted) > 1 and initials.endswith(wanted))
    ratios = (difflib.SequenceMatcher(None, *pair).ratio() for pair in ((name, candidate), (wanted, leaf)))
    return max(0.9 * shortened, *ratios)

  names = list(dict.fromkeys(known))
  if not names:
    return []
  best, *others = sorted(names, key=likeness, reverse=True)
  if likeness(best) < 0.4 and len(names) <= 12:
    return names
  return [best, *(each for each in others[:2] if likeness(each) >= max(0.7, likeness(best) - 0.15))]


def counted(number: int, thing: str) -> str:
  """So many of a thing: "1 picture", "1,200 pictures"."""
  return f"{number:,} {thing}{'s' * (number != 1)}"


def printable(name: str) -> str:
  """A name as a piece of one line: what cannot be seen or would break the line is escaped, as "\\n" and "\\xff".

  Bytes that are not UTF-8 (which Python holds as lone surrogates), control and format characters are such; one of
  spaces alone, or empty, stands in quotes.
  """
  pieces = []
  for letter in name:
    if "\udc80" <= letter <= "\udcff":
      pieces.append(f"\\x{ord(letter) - 0xDC00:02x}")
    elif letter.isprintable() or letter in "\u200c\u200d":  # those two join and part letters of some scripts
      pieces.append(letter)
    else:
      pieces.append(letter.encode("unicode_escape", "surrogatepass").decode())
  text = "".join(pieces)
  return text if text.strip(" \u200c\u200d") else repr(text)
