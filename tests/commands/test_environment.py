"""Mistyped variables of JAX's own: one line each, before anything is on the disk."""

import subprocess
import sys
from pathlib import Path

import pytest

from convattn.commands import environment
from convattn.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_flags_that_xla_would_end_the_process_for_are_one_line(monkeypatch):
  monkeypatch.setitem(sys.modules, "jax._src.xla_bridge", None)
  monkeypatch.setenv("XLA_FLAGS", "--xla_none=1")
  with pytest.raises(UserError) as raised:
    environment.check_flags()
  assert str(raised.value) == (
    "XLA_FLAGS is '--xla_none=1', but XLA does not take it (Unknown flag in XLA_FLAGS: --xla_none=1); "
    "correct or unset it."
  )


def test_a_device_that_is_not_there_is_one_line(monkeypatch):
  monkeypatch.setenv("JAX_PLATFORM_NAME", "gpu")
  monkeypatch.delenv("JAX_PLATFORMS")
  with pytest.raises(UserError) as raised, environment.explained():
    raise RuntimeError("Unknown backend gpu")
  assert str(raised.value) == "JAX_PLATFORM_NAME is 'gpu', but unknown backend gpu; correct or unset it."


def test_other_errors_stay_what_they_are():
  with pytest.raises(RuntimeError, match="of ours"), environment.explained():
    raise RuntimeError("of ours")


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("JAX_PLATFORMS", "cuda"),
    ("JAX_PLATFORMS", "cupu"),
    ("JAX_ENABLE_X64", "maybe"),
    ("JAX_NUM_CPU_DEVICES", "four"),
    ("JAX_DEFAULT_DEVICE", "gpu"),
    ("JAX_PLATFORM_NAME", "mistyped"),
    ("XLA_FLAGS", "foo"),
  ],
)
def test_a_mistyped_variable_is_one_line(tmp_path, name, value):
  command = ["env", f"{name}={value}", sys.executable, "train.py", f"--workdir={tmp_path / 'run'}"]
  if name != "JAX_PLATFORMS":
    command.insert(1, "JAX_PLATFORMS=cpu")
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 2
  assert done.stderr.count("\n") == 1
  assert done.stderr.startswith("convattn train: ") and name in done.stderr
  assert list(tmp_path.iterdir()) == []
