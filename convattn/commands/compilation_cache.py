"""The commands keep what they compile: JAX's persistent compilation cache, in a folder of its own and kept sound.

The folder is $JAX_COMPILATION_CACHE_DIR, JAX's own variable, and then no setting is changed; else
$XDG_CACHE_HOME/convattn/jax, or ~/.cache/convattn/jax. It may be deleted at any time. With
JAX_ENABLE_COMPILATION_CACHE=false nothing is kept.

JAX keeps programs that took it a second or more to compile, of any size, unless its own variables say otherwise. That
is left as it is: the many smaller programs of a command would fill the folder and save little each.

JAX warns of an entry that it cannot read, compiles, and leaves the entry there, so that it warns at every start; an
entry is also such while another process writes it. Here the warning is what makes a start look at the entries of that
program, so that sound folders cost nothing, and remove the broken ones before the program is written anew.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

_FOLDER = "jax_compilation_cache_dir"
_XLA_CACHES = "jax_persistent_cache_enable_xla_caches"
_WARNING = "Error (reading|writing) persistent compilation cache entry for '(.*?)': "


@contextlib.contextmanager
def kept() -> Iterator[None]:
  """Programs compiled in the block are kept, and taken from the folder if they are there.

  JAX's settings are as before after the block. If programs cannot be kept, a block that ends well is followed by one
  line on stderr.
  """
  problems: list[str] = []
  with _in_folder(), _repairing(problems):
    yield
  if problems:
    print(f"note: compiled programs are not kept: {problems[0]}", file=sys.stderr)


def default_folder() -> Path | None:
  """Where compiled programs are kept if JAX's own variable names no folder; None if there is no home either."""
  base = Path(os.environ.get("XDG_CACHE_HOME", ""))
  if not base.is_absolute():  # to be ignored, as XDG has it
    base = Path(os.path.expanduser("~/.cache"))
  return base / "convattn" / "jax" if base.is_absolute() else None


@contextlib.contextmanager
def _in_folder() -> Iterator[None]:
  """JAX's cache in `default_folder`, unless it has been given one; JAX need not be imported yet, and is not here."""
  folder = default_folder()
  jax = sys.modules.get("jax")
  chosen = _FOLDER.upper() in os.environ or (jax is not None and getattr(jax.config, _FOLDER) is not None)
  if folder is None or chosen:
    yield
    return
  # Files that XLA writes there by itself are left out: on a full disk they make it refuse to compile.
  wanted = {_FOLDER: str(folder), _XLA_CACHES: "none"}
  wanted = {name: value for name, value in wanted.items() if name.upper() not in os.environ}
  before: dict[str, Any] = {_FOLDER: None}
  if jax is None:  # will read its variables when it is imported
    os.environ.update({name.upper(): value for name, value in wanted.items()})
  else:
    before = {name: getattr(jax.config, name) for name in wanted}
    _configure(wanted)
  try:
    yield
  finally:
    if jax is None:
      for name in wanted:
        os.environ.pop(name.upper(), None)
    if "jax" in sys.modules:
      _configure(before)


def _configure(settings: dict[str, Any]) -> None:
  import jax
  from jax.experimental.compilation_cache import compilation_cache

  for name, value in settings.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()  # else it stays in the folder that it has first been used with


@contextlib.contextmanager
def _repairing(problems: list[str]) -> Iterator[None]:
  """Instead of JAX's warnings about its cache: broken entries are removed; what hinders is appended to `problems`."""
  with warnings.catch_warnings():
    warnings.filterwarnings("always", message=_WARNING, category=UserWarning)
    show = warnings.showwarning

    def repair(
      message: Warning | str,
      category: type[Warning],
      filename: str,
      lineno: int,
      file: TextIO | None = None,
      line: str | None = None,
    ) -> None:
      text = " ".join(str(message).split())
      found = re.match(_WARNING, text)
      if found is None:
        show(message, category, filename, lineno, file, line)
        return
      removed = _remove_broken(found[2], reading=found[1] == "reading")
      if found[1] == "writing" or not removed:
        problems.append(text[found.end() :])

    warnings.showwarning = repair
    yield


def _remove_broken(program: str, reading: bool) -> bool:
  """Whether entries of the program have been removed: those that do not decompress.

  If all of them do but one could not be read, none is known to be sound, and all go: they cost a compilation at most.
  """
  import jax

  # What JAX itself reads entries with; which compression that is depends on what is installed.
  from jax._src.compilation_cache import decompress_executable

  folder = getattr(jax.config, _FOLDER)
  if not folder:
    return False
  removed = False
  entries = sorted(Path(folder).glob(f"{glob.escape(program)}-*-cache"))
  broken = []
  for path in entries:
    try:
      decompress_executable(path.read_bytes())
    except Exception:  # of the library that decompresses, or of the file system
      broken.append(path)
  for path in broken or (entries if reading else []):
    with contextlib.suppress(OSError):
      path.unlink(missing_ok=True)  # another process may have been faster
      removed = True
  return removed
