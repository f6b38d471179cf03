"""One HTML file out of the files in page/ and the data of a page, that runs from the disk and asks for nothing."""

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convattn.errors import UserError
from convattn.files import write_whole

FOLDER = Path(__file__).parent / "page"
_IMPORT = re.compile(r"^import \{([^}]*)\} from \"\./([\w.]+)\";\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class)\*? (\w+))", re.MULTILINE)


class Page:
  """A page as one HTML file; in a notebook it shows itself.

  Attributes:
    manifest: its data, plain JSON (docs/explore.md lists what is in it).
  """

  def __init__(self, manifest: Mapping[str, Any]):
    self.manifest = manifest

  @property
  def html(self) -> str:
    """The whole file."""
    style = "".join(path.read_text() for path in sorted(FOLDER.glob("*.css")))
    script = script_of("main.js")
    policy = (
      f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
      "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    parts = {
      "policy": html.escape(policy),
      "title": html.escape(self.manifest["title"]),
      "style": style,
      "script": script,
      "manifest": _json(self.manifest),
    }
    template = (FOLDER / "explore.html").read_text()
    # In one pass, so that nothing in the data is taken for a place to fill.
    return re.sub(r"<!-- (\w+) -->|/\* (script|style) \*/", lambda match: parts[match[1] or match[2]], template)

  def write(self, path: str | os.PathLike[str]) -> Path:
    """Writes the file, whole or not at all, and returns its path.

    Raises:
      UserError: the path is a folder, or in one that is not there.
      OSError: it cannot be written.
    """
    path = Path(path).expanduser()
    if path.is_dir() or not path.name:
      raise UserError(f"path must name a file, got {str(path)!r}, which is a folder.")
    if not path.parent.is_dir():
      raise UserError(f"path={path}: there is no folder {str(path.parent)!r}; make it, or name another.")
    write_whole({path: self.html.encode()})
    return path

  def _repr_html_(self) -> str:
    # A frame of its own, without the rights of the notebook's page; it may hand out files.
    return (
      f'<iframe title="{html.escape(self.manifest["title"])}" sandbox="allow-scripts allow-downloads" '
      f'style="width: 100%; height: 760px; border: 0" srcdoc="{html.escape(self.html)}"></iframe>'
    )


def script_of(name: str) -> str:
  """A module of page/ and all that it imports, as one script: each in a function of its own, in order.

  What the modules may say is `import { a, b as c } from "./file.js";` at the start of a line, and `export` before a
  function, a class or a const. A browser or node can load them as they are, too.

  Raises:
    ValueError: modules that import each other in a circle.
  """
  done: dict[str, str] = {}
  _collect(name, done, ())
  return '"use strict";\n(() => {\nconst modules = {};\n' + "".join(done.values()) + "})();\n"


def _collect(name: str, done: dict[str, str], above: tuple[str, ...]) -> None:
  if name in above:
    raise ValueError(f"modules of the page import each other in a circle: {' -> '.join((*above, name))}.")
  if name in done:
    return
  source = (FOLDER / name).read_text()
  for _, other in _IMPORT.findall(source):
    _collect(other, done, (*above, name))

  def taken(match: re.Match[str]) -> str:
    return f'const {{{match[1].replace(" as ", ": ")}}} = modules["{match[2]}"];\n'

  names = ", ".join(_EXPORT.findall(source))
  body = _EXPORT.sub("", _IMPORT.sub(taken, source))
  done[name] = f'\n// ---- {name}\nmodules["{name}"] = (() => {{\n{body}\nreturn {{ {names} }};\n}})();\n'


def _digest(text: str) -> str:
  return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(manifest: Mapping[str, Any]) -> str:
  """JSON that cannot end the element it stands in, nor open a comment there; inf and nan are null."""
  text = json.dumps(manifest, allow_nan=False, separators=(",", ":"))
  return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
