"""Fonts that have the letters of a text, among those of this machine."""

import functools
from collections.abc import Iterable

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font


def families(texts: Iterable[str]) -> tuple[list[str], str]:
  """(families to be tried in this order, the letters that none of them has).

  The font of the figures comes first; others are looked for only where it lacks a letter.
  """
  found = [FontProperties().get_name()]
  missing = {letter for text in texts for letter in text} - letters(findfont(FontProperties()))
  missing -= {"\u200c", "\u200d"}  # they are not drawn
  for family, path in _upright() if missing else ():
    has = missing & letters(path)
    if has:
      found.append(family)
      missing -= has
    if not missing:
      break
  return found, "".join(sorted(missing))


def _upright() -> list[tuple[str, str]]:
  """(family, its file) of the plain fonts, sorted by name, so that a figure is the same each time."""
  drawn_otherwise = ("last resort", "stix", "cm", "dejavu math")  # boxes, and mathematics alone
  plain = {
    (entry.name, entry.fname)
    for entry in fontManager.ttflist
    if entry.style == "normal" and entry.weight in (400, "normal", "regular") and entry.stretch in ("normal", 500)
  }
  return sorted(each for each in plain if not each[0].lower().startswith(drawn_otherwise))


@functools.cache
def letters(path: str) -> frozenset[str]:
  """Those that the font in the file has; none if it cannot be read."""
  try:
    return frozenset(map(chr, get_font(path).get_charmap()))
  except (OSError, RuntimeError):
    return frozenset()
