import subprocess
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from convattn.models import CoAtNet
from convattn.training import progress
from convattn.training.config import Compute
from convattn.training.progress import (
  Progress,
  Throughput,
  device_line,
  flop_per_image,
  summary,
  unused_gpu_warning,
)


def test_the_device_line_names_devices_dtype_and_precision():
  devices = [SimpleNamespace(device_kind="cpu")] * 2
  assert device_line(devices, Compute()) == "2 × cpu | float32 | matmul precision default"
  compute = Compute(dtype="bfloat16", matmul_precision="highest")
  assert device_line(devices, compute, CoAtNet(None, dtype=jnp.float16)).split(" | ")[1] == "float16"
  assert device_line(devices, compute, nn.Dense(3)).split(" | ")[1] == "bfloat16"  # it leaves the dtype open
  mixed = [SimpleNamespace(device_kind="A"), SimpleNamespace(device_kind="B")]
  assert device_line(mixed, compute) == "1 × A, 1 × B | bfloat16 | matmul precision highest"


@pytest.mark.parametrize(
  "backend, installed, status, warns",
  [("cpu", True, 0, True), ("gpu", True, 0, False), ("cpu", False, 0, False), ("cpu", True, 9, False)],
)
def test_an_unused_gpu_is_a_warning_with_the_command_that_fixes_it(monkeypatch, backend, installed, status, warns):
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  monkeypatch.setattr(progress.shutil, "which", lambda name: "/bin/nvidia-smi" if installed else None)
  monkeypatch.setattr(
    progress.subprocess, "run", lambda args, **_: subprocess.CompletedProcess(args, status, b"GPU 0", b"")
  )
  warning = unused_gpu_warning()
  assert (warning is not None) == warns
  assert not warns or "make train ACCELERATOR=cuda" in warning


def test_throughput_counts_images_only_while_its_clock_runs(monkeypatch):
  now = iter([10.0, 12.0, 20.0, 21.0])
  monkeypatch.setattr(progress.time, "perf_counter", lambda: next(now))
  speed = Throughput()
  speed.add(100)  # the first step, which compiles
  assert speed.mean() is None
  assert speed.lap() == {}
  speed.start(waited=5.0)  # 10; the first batch was waited for while nothing was timed
  speed.add(30, waited=5.5)
  speed.stop()  # 12
  assert speed.lap() == {"images_per_second": 30 / 2, "waiting_for_data": 0.5 / 2}
  speed.add(100, waited=5.5)  # not timed
  speed.start(waited=5.5)  # 20
  speed.start(waited=5.5)  # running already
  speed.add(40, waited=5.75)
  speed.stop()  # 21
  assert speed.lap() == {"images_per_second": 40, "waiting_for_data": 0.25}
  assert speed.mean() == 70 / 3


def test_with_the_work_of_an_image_throughput_is_work_too(monkeypatch):
  now = iter([10.0, 12.0])
  monkeypatch.setattr(progress.time, "perf_counter", lambda: next(now))
  speed = Throughput()
  speed.flop_per_image = 6e9
  speed.start()
  speed.add(30)
  speed.stop()
  assert speed.lap() == {"images_per_second": 15, "tflop_per_second": pytest.approx(0.09), "waiting_for_data": 0}
  assert speed.lap() == {}


def test_the_work_of_a_step_is_counted_in_the_program_that_its_call_has_traced():
  traced = []

  def step(x, y):
    traced.append(1)
    return x @ y

  x, y = jnp.ones((3, 5)), jnp.ones((5, 7))
  jitted = jax.jit(step)
  jitted(x, y)
  assert flop_per_image(jitted, 3, x, y) == 2 * 5 * 7
  assert traced == [1]
  assert flop_per_image(step, 3, x, y) is None  # no program: no number, and no error


@pytest.mark.parametrize(
  ("value", "shown"),
  [(0.0454, "45.4 GFLOP/s"), (1.234, "1.23 TFLOP/s"), (1234.5, "1,234 TFLOP/s"), (2.7e-5, "0.0270 GFLOP/s"),
   (0.9, "900 GFLOP/s"), (0.0, "0 GFLOP/s")],
)  # fmt: skip
def test_work_is_shown_with_three_digits_in_the_unit_of_its_size(capsys, value, shown):
  with Progress(20, 0, enabled=True) as bar:
    bar.report(10, {"images_per_second": 80.0, "tflop_per_second": value, "validation/accuracy": 0.25})
  assert f", 80 images/s, {shown}, " in capsys.readouterr().out


def test_plain_lines_show_loss_speed_time_left_and_validation(capsys):
  with Progress(20, 0, enabled=True) as bar:
    bar.advance()
    bar.report(10, {"train/loss": 0.5, "images_per_second": 80.0, "validation/accuracy": 0.25})
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith("step 10/20, loss 0.5000, 80 images/s, 0:0")
  assert line.endswith("left, validation/accuracy 25.00%")


@pytest.mark.parametrize("first", [0, 30])
def test_the_first_step_which_compiles_is_left_out_of_the_pace(monkeypatch, capsys, first):
  now = [100.0]
  monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
  with Progress(first + 100, first, enabled=True) as bar:
    now[0] += 60
    bar.advance()
    bar.report(first + 1, {"train/loss": 0.5})
    for _ in range(9):
      now[0] += 2
      bar.advance()
    bar.report(first + 10, {"train/loss": 0.5})
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == f"step {first + 1}/{first + 100}, loss 0.5000"
  assert lines[1] == f"step {first + 10}/{first + 100}, loss 0.5000, 3:00 left"


def test_other_hosts_are_silent(capsys):
  with Progress(20, 0, enabled=False) as bar:
    bar.advance()
    bar.report(10, {"train/loss": 0.5, "validation/accuracy": 0.25})
  assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
  "seconds, shown", [(0, "0:00"), (5.2, "0:06"), (60, "1:00"), (3599.5, "1:00:00"), (7325, "2:02:05")]
)
def test_a_clock_has_hours_where_there_are_some(seconds, shown):
  assert progress.clock(seconds) == shown


def test_the_time_left_is_told_as_any_time(monkeypatch):
  monkeypatch.setattr(progress.time, "perf_counter", lambda: 110.0)
  assert [progress.time_left(100.0, 4, rest) for rest in (0, 3, 1441)] == ["0:00 left", "0:08 left", "1:00:03 left"]


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
  monkeypatch.setattr(progress.sys.stdout, "isatty", lambda: True, raising=False)
  with Progress(3, 1, enabled=True) as bar:
    bar.advance()
    bar.report(2, {"train/loss": 0.5, "images_per_second": 80.0, "tflop_per_second": 2.0, "validation/accuracy": 0.25})
  shown = capsys.readouterr().out
  assert "2/3" in shown
  assert "loss=0.5000, images/s=80, TFLOP/s=2.00" in shown
  assert "step 2: validation/accuracy 25.00%" in shown


def test_the_summary_names_what_was_measured():
  result = {
    "step": 9, "test/accuracy": 0.5, "test/count": 4, "test_ema/accuracy": 0.75, "test_ema/count": 4, "best/step": 6,
    "best/validation/accuracy": 1.0, "seconds": 3.21, "images_per_second": None, "state_sha256": "0123456789abcdef",
  }  # fmt: skip
  assert summary(result, "runs/x").splitlines() == [
    "test accuracy 50.00% of 4 after 9 steps",
    "test_ema accuracy 75.00% of 4 after 9 steps",
    "best validation accuracy 100.00%, checkpoint of step 6",
    "3.2 s; state 0123456789ab; everything is in runs/x",
  ]


def test_the_summary_survives_numbers_that_were_not_finite():
  result = {"step": 9, "test/accuracy": None, "test/count": 4, "seconds": 1.0, "images_per_second": 7.0}
  shown = summary({**result, "state_sha256": "0" * 64}, "runs/x").splitlines()
  assert shown[0] == "test accuracy not finite of 4 after 9 steps"
  assert shown[1].startswith("1.0 s, 7 images/s; ")


def test_memory_is_told_where_the_device_counts_it(monkeypatch):
  assert progress.device_memory() == {}  # a CPU does not

  class Device:
    def memory_stats(self):
      return {"peak_bytes_in_use": 3 * 2**29}

  monkeypatch.setattr(progress.jax, "local_devices", lambda: [Device()])
  assert progress.device_memory() == {"device_gib": 1.5}
