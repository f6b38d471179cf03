"""JAX starts, or one line says which variable of the environment keeps it from that."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator

from convattn.errors import UserError, one_line

_CHECK = "from jaxlib import xla_client; xla_client.CompileOptions().executable_build_options.debug_options"
"""What reads XLA_FLAGS, as a device does; with a flag that there is not, it ends the process."""


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Turns an error of JAX's start, of its import or of its devices, into a UserError of one line.

  Raises:
    UserError: a variable of JAX's has a value that it does not take, or names a device that is not there.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    line = _explanation(error)
    if line is None:
      raise
    raise UserError(line) from error


def check_flags() -> None:
  """Refuses what XLA would end the process for, in a process of its own; nothing without XLA_FLAGS, or once it runs.

  Raises:
    UserError: a flag that there is not, or a value that it does not take.
  """
  bridge, flags = sys.modules.get("jax._src.xla_bridge"), os.environ.get("XLA_FLAGS", "").strip()
  if flags and (bridge is None or not bridge.backends_are_initialized()) and (said := _refusal(flags)):
    raise UserError(f"XLA_FLAGS is {flags!r}, but XLA does not take it ({said}); correct or unset it.")


@functools.cache
def _refusal(flags: str) -> str:
  environment = {**os.environ, "XLA_FLAGS": flags}
  command = [sys.executable, "-c", _CHECK]
  done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
  if not done.returncode or "Traceback" in done.stderr:
    return ""  # it has read them, or something else is the matter, which comes up again
  # The first line is "E1126 16:11:36.441154   12570 command_line_flags.cc:63] what is the matter".
  lines = done.stderr.strip().splitlines() or ["it ended"]
  return one_line(lines[0].partition("] ")[2] or lines[0], 200)


def _explanation(error: Exception) -> str | None:
  frames = traceback.extract_tb(error.__traceback__)
  places = [(frame.filename.replace(os.sep, "/"), frame.name) for frame in frames]
  if any("/jax/" in path and name == "<module>" for path, name in places):
    return _of_settings(error)  # while it was imported
  named = [name for name in ("JAX_PLATFORM_NAME", "JAX_DEFAULT_DEVICE", "JAX_PLATFORMS") if os.environ.get(name)]
  if isinstance(error, RuntimeError) and str(error).startswith("Unknown backend") and named:
    values = " and ".join(f"{name} is {os.environ[name]!r}" for name in named)
    return f"{values}, but {one_line(error)[:1].lower()}{one_line(error)[1:]}; correct or unset it."
  return _of_devices(error) if any(path.endswith("/jax/_src/xla_bridge.py") for path, _ in places) else None


def _of_devices(error: Exception) -> str | None:
  """Where the first device is asked for; later, what fails in that module is no matter of the environment."""
  bridge = sys.modules["jax._src.xla_bridge"]
  if bridge._default_backend is not None:
    return None
  wanted = os.environ.get("JAX_PLATFORMS", "")
  reasons = one_line(error) or "; ".join(f"{name}: {one_line(why)}" for name, why in bridge._backend_errors.items())
  said = f" ({reasons[:300]})" if reasons else ""
  if wanted:
    advice = "; set JAX_PLATFORMS=cpu, or unset it for what there is, or install JAX for that device"
    return f"JAX_PLATFORMS is {wanted!r}, but JAX finds no such device{said}{advice}."
  return f"JAX starts no device{said}; set JAX_PLATFORMS=cpu to compute on the processor. {_variables()}".rstrip()


def _of_settings(error: Exception) -> str:
  text = one_line(error)
  named = re.search(r"\b(jax_\w+|JAX_\w+)", text)
  name = named[0].upper() if named else ""
  if name in os.environ:
    return f"{name} is {os.environ[name]!r}, which JAX does not take ({text}); correct or unset it."
  return f"JAX does not start ({type(error).__name__}: {text}). {_variables()}".rstrip()


def _variables() -> str:
  """Those that are set, of which one may be to blame."""
  names = sorted(name for name in os.environ if name.startswith(("JAX_", "XLA_", "LIBTPU_", "TPU_", "CUDA_")))
  return f"Set here, and perhaps mistyped: {', '.join(names)}." if names else ""
