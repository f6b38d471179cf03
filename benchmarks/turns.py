"""Processes that take turns: one carries work out while the others stand still."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from benchmarks.children import Watch, ending_with_parent

ROOT = Path(__file__).parents[1]


class Side:
  """A process, with all that it starts, that answers numbers on its stdin with JSON objects on its stdout.

  It writes one of its own accord when it is ready: `facts`. It is stopped between its turns, as the threads of some
  libraries keep turning for a while when they have no work. It ends with this process, however that ends.

  Raises:
    SystemExit: it ended without an answer; with the end of what it wrote on stderr.
  """

  def __init__(self, name: str, command: Sequence[str]):
    self.name = name
    self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
    self._process = subprocess.Popen(
      ending_with_parent(command),
      cwd=ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
      start_new_session=True,
    )
    self._watch = Watch(self._process.pid)
    try:
      self.facts = self._answer()
      self._signal(signal.SIGSTOP)
    except BaseException:
      self.__exit__()
      raise

  def ask(self, number: int) -> dict[str, Any]:
    """Its answer to `number`, which is what is new in `facts`."""
    assert self._process.stdin is not None
    self._signal(signal.SIGCONT)
    self._process.stdin.write(f"{number}\n")
    self._process.stdin.flush()
    self.facts |= self._answer()
    self._signal(signal.SIGSTOP)
    return self.facts

  def _signal(self, number: int) -> None:
    os.killpg(self._process.pid, number)

  def _answer(self) -> dict[str, Any]:
    assert self._process.stdout is not None
    line = self._process.stdout.readline()
    if not line:
      self._errors.seek(0)
      said = self._errors.read()[-2000:]
      raise SystemExit(f"side {self.name} stopped:\n{said}")
    return dict(json.loads(line))

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: object) -> None:
    if self._process.poll() is None:
      self._signal(signal.SIGKILL)
    self._process.communicate()
    self._watch.close()
    self._errors.close()
