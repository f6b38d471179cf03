"""The manifest of a folder: size and SHA-256 of every file in it, so that what was damaged since is known."""

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from convattn.files import write_whole

MANIFEST = "manifest.json"

# hashlib lets go of the interpreter's lock while it reads and digests.
_THREADS = 8


def write_manifest(folder: Path) -> None:
  """Writes manifest.json of `folder`: {"files": {path: {"bytes", "sha256"}}}, paths relative and sorted.

  When the manifest is in place, all that it lists is on the disk, even if the power fails: every file and folder is
  synced first, and the manifest itself before it is renamed into place.

  Raises:
    OSError: a file cannot be read, or the manifest cannot be written.
  """
  paths = sorted(_files(folder))
  with ThreadPoolExecutor(_THREADS) as threads:
    entries = list(threads.map(lambda path: _entry(folder / path, sync=True), paths))
  for root, _, _ in os.walk(folder):
    _sync_folder(Path(root))
  write_whole({folder / MANIFEST: json.dumps({"files": dict(zip(paths, entries, strict=True))}, indent=1).encode()})
  _sync_folder(folder)


def verify(folder: Path) -> str | None:
  """What is wrong with the files of `folder`, in one line; None where all is as its manifest says."""
  try:
    listed = _listed(folder)
  except FileNotFoundError:
    return f"{MANIFEST} is missing"
  except (OSError, ValueError) as error:
    return f"{MANIFEST} cannot be read: {' '.join(str(error).split())[:200]}"
  found = set(_files(folder))
  for path in sorted(found ^ set(listed)):
    return f"{path} is not in {MANIFEST}" if path in found else f"{path} is missing"
  with ThreadPoolExecutor(_THREADS) as threads:
    problems = threads.map(lambda path: _problem(folder, path, listed[path]), sorted(listed))
    return next((problem for problem in problems if problem), None)


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
  content = json.loads((folder / MANIFEST).read_bytes())
  files = content.get("files") if isinstance(content, dict) else None
  if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
    raise ValueError("it is no list of files")
  return files


def _files(folder: Path) -> Iterator[str]:
  """Every file below `folder` but its manifest, as a path relative to it."""
  for root, _, names in os.walk(folder):
    for name in names:
      path = (Path(root) / name).relative_to(folder).as_posix()
      if path != MANIFEST:
        yield path


def _entry(path: Path, *, sync: bool = False) -> dict[str, Any]:
  with path.open("rb") as file:
    if sync:
      os.fsync(file.fileno())
    return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _problem(folder: Path, path: str, listed: dict[str, Any]) -> str | None:
  try:
    size = (folder / path).stat().st_size
    if size != listed.get("bytes"):  # without reading it
      return f"{path} has {size} bytes instead of {listed.get('bytes')}"
    found = _entry(folder / path)
  except OSError as error:
    return f"{path} cannot be read: {error.strerror}"
  return None if found == listed else f"{path} has another SHA-256 than when it was written"


def _sync_folder(folder: Path) -> None:
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
