"""Class names as they are shown in tables and figures; files hold them as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from convattn.errors import printable

LONGEST = 40
"""Letters of a name that are shown."""


def labels(class_names: Sequence[str], longest: int = LONGEST) -> list[str]:
  """Each name on one line, its middle left out where it is longer than `longest`.

  Names that would look alike get the number of their class, as "from_1…_9 #3".
  """
  shown = [_short(printable(name), longest) for name in class_names]
  count = Counter(shown)
  return [f"{text} #{number}" if count[text] > 1 else text for number, text in enumerate(shown)]


def _short(text: str, longest: int) -> str:
  if len(text) <= longest:
    return text
  end = longest // 3
  return f"{text[: longest - end - 1]}…{text[-end:]}"
