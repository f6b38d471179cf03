import os
import subprocess
import sys

import pytest

from convattn.training import determinism
from convattn.training.determinism import FLAG, request_deterministic_kernels


def test_a_backend_that_runs_without_the_flag_is_an_error_that_says_what_to_do(monkeypatch):
  import jax

  jax.devices()
  monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
  with pytest.raises(RuntimeError, match=f"XLA_FLAGS={FLAG} before jax starts .* start Python anew"):
    request_deterministic_kernels()


NAME = "--xla_gpu_deterministic_ops"


@pytest.mark.parametrize("flag", [FLAG, NAME, f"{NAME}=True", f"{NAME}=1", f"{NAME}=false {NAME}"])
def test_nothing_happens_where_the_flag_is_set(monkeypatch, flag):
  monkeypatch.setenv("XLA_FLAGS", f"--xla_force_host_platform_device_count=4 {flag}")
  request_deterministic_kernels()
  assert os.environ["XLA_FLAGS"] == f"--xla_force_host_platform_device_count=4 {flag}"


@pytest.mark.parametrize("flag", [f"{NAME}=false", f"{NAME}=0", f"{FLAG} {NAME}=false", f"{NAME}_of_another_kind"])
def test_the_flag_is_added_where_it_is_off(monkeypatch, flag):
  monkeypatch.setattr(determinism, "backends_are_initialized", lambda: False)
  monkeypatch.setenv("XLA_FLAGS", flag)
  request_deterministic_kernels()
  assert os.environ["XLA_FLAGS"] == f"{flag} {FLAG}"


def test_the_flag_is_added_to_the_others_and_the_backend_takes_it():
  code = (
    "import os; from convattn.training import request_deterministic_kernels as request; request(); request();"
    "import jax; print(os.environ['XLA_FLAGS'], jax.device_count())"
  )
  environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
  done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
  assert done.stdout.split() == ["--xla_force_host_platform_device_count=3", FLAG, "3"]
