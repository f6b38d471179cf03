"""Processes that end with the one that started them, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

_PDEATHSIG = 1  # PR_SET_PDEATHSIG of linux/prctl.h

_WATCH = "import os, sys; sys.stdin.read(); os.killpg(int(sys.argv[1]), 9)"


def ending_with_parent(command: Sequence[str]) -> list[str]:
  """The command of a process that the kernel kills when the thread that started it ends; on Linux, elsewhere as it is.

  It may be stopped then. What it has started itself is not killed; see `Watch`. (A `preexec_fn` would fork, which a
  process that runs JAX must not.)
  """
  return [sys.executable, "-S", __file__, str(os.getpid()), *command] if sys.platform == "linux" else list(command)


class Watch:
  """A process that kills a group of processes, stopped ones too, when this one has ended; until `close`.

  Args:
    group: the group's number.
  """

  def __init__(self, group: int):
    # The pipe is closed by the kernel; a session of its own, so that a signal to all of a terminal's passes it by.
    self._process = subprocess.Popen(
      [sys.executable, "-S", "-c", _WATCH, str(group)],
      stdin=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      start_new_session=True,
    )

  def close(self) -> None:
    """Ends the watch, not the group."""
    self._process.kill()
    self._process.communicate()


if __name__ == "__main__":
  parent, *rest = sys.argv[1:]
  ctypes.CDLL(None, use_errno=True).prctl(_PDEATHSIG, signal.SIGKILL)
  if os.getppid() != int(parent):  # it has ended meanwhile
    sys.exit(1)
  os.execvp(rest[0], rest)
