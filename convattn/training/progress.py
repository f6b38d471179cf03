"""What a run shows: its devices, where it is, and at what speed."""

import math
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import tqdm

from convattn.analysis import multiply_adds
from convattn.training.config import Compute
from convattn.training.distributed import is_main

_QUIET_SECONDS = 5.0


def device_line(devices: Sequence[jax.Device], compute: Compute, model: nn.Module | None = None) -> str:
  """For instance "2 × cpu | float32 | matmul precision default"; the dtype is the model's own where it has one."""
  own = getattr(model, "dtype", None)
  dtype = compute.dtype if own is None else jnp.dtype(own).name
  kinds = Counter(device.device_kind for device in devices)
  names = ", ".join(f"{number} × {kind}" for kind, number in kinds.items())
  return f"{names} | {dtype} | matmul precision {compute.matmul_precision}"


def unused_gpu_warning() -> str | None:
  """A warning with the command that fixes it, where nvidia-smi answers but JAX computes on the CPU."""
  if jax.default_backend() != "cpu" or not shutil.which("nvidia-smi"):
    return None
  # Its own failure means that there is no usable GPU, which is no reason to stop.
  if subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, check=False).returncode:
    return None
  return "warning: this machine has a GPU but jax uses the CPU; `make train ACCELERATOR=cuda` installs the build for it"


class Throughput:
  """Images per second of training alone: the clock stands while something else goes on.

  `start` is called when the first step has been compiled and run, so that neither counts. `flop_per_image` of training
  is known by then, where the step can be counted (see below).
  """

  def __init__(self) -> None:
    self.images = 0
    self.flop_per_image: float | None = None
    self._seconds = 0.0
    self._since: float | None = None
    self._waited, self._waited_before = 0.0, 0.0
    self._lap = (0, 0.0, 0.0)

  def start(self, waited: float = 0.0) -> None:
    """`waited`: the seconds, of all the time, in which the loop waited for a batch; steps in flight go on meanwhile."""
    if self._since is None:
      self._since = time.perf_counter()
      if not self._seconds:
        self._waited_before = waited

  def stop(self) -> None:
    if self._since is not None:
      self._seconds += time.perf_counter() - self._since
    self._since = None

  def add(self, images: int, waited: float = 0.0) -> None:
    if self._since is not None:
      self.images += images
      self._waited = waited - self._waited_before

  @property
  def seconds(self) -> float:
    return self._seconds + (time.perf_counter() - self._since if self._since is not None else 0.0)

  def mean(self) -> float | None:
    """Over the whole run; None if no step was timed."""
    return self.images / self.seconds if self.images else None

  def lap(self) -> dict[str, float]:
    """Since the last call: images_per_second, tflop_per_second where that is known, and the share of the time
    waiting_for_data; {} if no step was timed."""
    now = (self.images, self.seconds, self._waited)
    images, seconds, waited = (new - old for new, old in zip(now, self._lap, strict=True))
    self._lap = now
    if not images:
      return {}
    work = {} if self.flop_per_image is None else {"tflop_per_second": images / seconds * self.flop_per_image / 1e12}
    return {"images_per_second": images / seconds, **work, "waiting_for_data": waited / seconds}


def flop_per_image(step: Any, batch_size: int, *arguments: Any) -> float | None:
  """Two for each multiply-add in the products of a jitted step, by image of its batch; None where it is not countable.

  What is counted is the program that a call with such arguments has traced: nothing is traced again.
  """
  try:
    return 2 * multiply_adds(step.trace(*arguments).jaxpr) / batch_size
  # Whatever the counting meets in a program of the user's: no run ends for want of a number.
  except Exception:
    return None


def device_memory() -> dict[str, float]:
  """{"device_gib": the most memory that this process's first device has had in use}; {} where it does not say."""
  found = jax.local_devices()[0].memory_stats() or {}
  return {"device_gib": found["peak_bytes_in_use"] / 2**30} if "peak_bytes_in_use" in found else {}


def show(*lines: str | None) -> None:
  """Prints those that are not None, on the first process."""
  for line in lines:
    if line is not None and is_main():
      print(line, flush=True)


def clock(seconds: float) -> str:
  """Such as 2:05 (minutes:seconds) or 1:02:05 (with hours), rounded up."""
  minutes, rest = divmod(math.ceil(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def time_left(started: float, done: int, remaining: int) -> str:
  """For instance "3:07 left", as `clock` has it, at the pace since `started`, a time of `time.perf_counter`."""
  pace = (time.perf_counter() - started) / max(done, 1)
  return f"{clock(pace * remaining)} left"


class Progress:
  """A bar on a terminal; elsewhere a line at each validation, and otherwise at most one in five seconds.

  The first step, which compiles, is left out of the pace: `advance` is called when it has been taken.
  """

  def __init__(self, num_steps: int, step: int, metric_names: Sequence[str] = ("loss", "accuracy"), *, enabled: bool):
    self._shown = scores(metric_names)
    self._num_steps, self._first, self._enabled = num_steps, step + 1, enabled
    self._printed = time.perf_counter()
    self._started: float | None = None
    terminal = enabled and sys.stdout.isatty()
    self._bar = tqdm.tqdm(total=num_steps, initial=step, unit="step", file=sys.stdout) if terminal else None

  def advance(self) -> None:
    if self._started is None:
      self._started = time.perf_counter()
    if self._bar is not None:
      self._bar.update()

  def report(self, step: int, numbers: dict[str, float]) -> None:
    """Shows loss, images per second and time left, and the scores of evaluations where there are some."""
    parts_of = {name: name.rpartition("/") for name in numbers}
    wanted = [
      name for name, (split, _, metric) in parts_of.items() if split not in ("", "train") and metric in self._shown
    ]
    shown = ", ".join(f"{name} {as_text(name, numbers[name])}" for name in wanted)
    if self._bar is not None:
      parts = {"loss": f"{numbers['train/loss']:.4f}"} if "train/loss" in numbers else {}
      parts |= {"images/s": f"{numbers['images_per_second']:.0f}"} if "images_per_second" in numbers else {}
      parts |= dict([_work(numbers)[::-1]]) if "tflop_per_second" in numbers else {}
      if parts:
        self._bar.set_postfix(parts)
      if shown:
        self._bar.write(f"step {step}: {shown}", file=sys.stdout)
    elif self._enabled and (shown or time.perf_counter() - self._printed > _QUIET_SECONDS):
      self._printed = time.perf_counter()
      print(self._line(step, numbers, shown), flush=True)

  def _line(self, step: int, numbers: dict[str, float], shown: str) -> str:
    parts = [f"step {step}/{self._num_steps}"]
    if "train/loss" in numbers:
      parts.append(f"loss {numbers['train/loss']:.4f}")
    if "images_per_second" in numbers:
      parts.append(f"{numbers['images_per_second']:.0f} images/s")
    if "tflop_per_second" in numbers:
      parts.append(" ".join(_work(numbers)))
    if self._started is not None and step > self._first:
      parts.append(time_left(self._started, step - self._first, self._num_steps - step))
    return ", ".join(parts + ([shown] if shown else []))

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    if self._bar is not None:
      self._bar.close()


def _work(numbers: dict[str, float]) -> tuple[str, str]:
  """(three digits, their unit) of "tflop_per_second", in thousandths of it where it is below 1."""
  value, unit = numbers["tflop_per_second"], "TFLOP/s"
  if value < 1:
    value, unit = 1000 * value, "GFLOP/s"
  decimals = max(0, 2 - math.floor(math.log10(value))) if value else 0
  return f"{value:,.{decimals}f}", unit


def scores(metric_names: Iterable[str]) -> tuple[str, ...]:
  """Those of a task's metrics that are shown of an evaluation: all but the loss, or that alone where it is all."""
  names = tuple(metric_names)
  return tuple(name for name in names if name != "loss") or names


def as_text(name: str, value: float | None) -> str:
  """An accuracy in per cent, another score with four digits."""
  if value is None:
    return "not finite"
  return f"{value:.2%}" if name.rpartition("/")[2] == "accuracy" else f"{value:.4g}"


def split_scores(numbers: dict[str, Any]) -> list[str]:
  """ "test accuracy 50.00% of 4" for each score of each split in a result or a line of metrics."""
  found = []
  for split in [name.removesuffix("/count") for name in numbers if name.endswith("/count")]:
    metrics = {name.partition("/")[2]: value for name, value in numbers.items() if name.startswith(f"{split}/")}
    count = metrics.pop("count")
    found += [f"{split} {name} {as_text(name, metrics[name])} of {count}" for name in scores(metrics)]
  return found


def best_scores(result: dict[str, Any]) -> list[str]:
  """That of the best checkpoint, where the task ranks them."""
  names = [name.removeprefix("best/") for name in result if name.startswith("best/") and name != "best/step"]
  return [
    f"best {name.replace('/', ' ')} {as_text(name, result[f'best/{name}'])}, checkpoint of step {result['best/step']}"
    for name in names
  ]


def summary(result: dict[str, Any], folder: Any) -> str:
  """A few lines about a finished run, from its result.json."""
  lines = [f"{each} after {result['step']} steps" for each in split_scores(result)] + best_scores(result)
  speed = f", {result['images_per_second']:.0f} images/s" if result["images_per_second"] else ""
  lines.append(f"{result['seconds']:.1f} s{speed}; state {result['state_sha256'][:12]}; everything is in {folder}")
  return "\n".join(lines)
