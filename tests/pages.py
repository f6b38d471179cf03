"""The README and the pages of docs/, and what they are made of."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}


def blocks(page: str, language: str) -> list[str]:
  """The fenced blocks of a page, each behind as many empty lines as there are lines above it."""
  text = PAGES[page]
  found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
  return ["\n" * text[: match.start(1)].count("\n") + match[1] for match in found]


def prose(page: str) -> str:
  """A page without its fenced blocks."""
  return re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
