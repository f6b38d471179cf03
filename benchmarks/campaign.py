"""What a run survives: kills at named points and at random moments, and damage to every file of its checkpoints.

    python -m benchmarks.campaign --out=FILE.json [--moments=20] [--damages=20] [--seed=0] [--point=NAME ...]
        [--folder=DIR]

One small run is trained straight. Then it is killed with SIGKILL, at each point of benchmarks.campaign_kill and at
`moments` random moments, and resumed by the same command. Then a run that was killed before its result was written is
copied again and again, a file of a checkpoint is damaged in each copy, and it is resumed: of all checkpoints every file
is removed and emptied, `damages` drawn files are cut off at drawn places, and `damages` drawn single bits are flipped.

Each trial must end with the result.json and the metrics.jsonl of the straight run, SHA-256 of parameters and whole
state included; only times may differ. It ends "equal", or "fell back" (equal, after a checkpoint was set aside), or
"best lost" (equal but for the name of the best checkpoint, which is the one that was damaged: that file is what was
lost). Anything else is a failure, a traceback too, and makes the exit status 1. FILE.json has every trial.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.campaign_damage import damages
from benchmarks.campaign_kill import POINTS
from benchmarks.campaign_worker import END
from benchmarks.children import ending_with_parent
from convattn.training.writer import TIMES

ROOT = Path(__file__).parents[1]
SETTINGS = {
  "num_steps": 40,
  "batch_size": 16,
  "eval_batch_size": 60,
  "log_every": 5,
  "eval_every": 10,
  "checkpoint.every": 10,
  "ema_decay": 0.9,
  "optimizer.warmup_steps": 4,
}
# At which occurrence: that of the second checkpoint, so that there is one to go back to. A checkpoint has two JSON
# files; validation has 3 batches, scored twice, with the weights and with their average.
COUNTS = {
  "inside a save, writing files": 3,
  "inside a save, before the commit": 2,
  "between commit and manifest": 2,
  "before the manifest is in place": 2,
  "inside an evaluation": 9,
}
GOOD = ("equal", "fell back", "best lost")


@dataclasses.dataclass(frozen=True)
class Trial:
  """What was done (`kind`, and to what or when: `what`), and how the resumed run ended."""

  kind: str
  what: str
  outcome: str
  detail: str = ""


@dataclasses.dataclass(frozen=True)
class Runner:
  """Starts the same training command, in folders below `folder`, with compiled programs and data kept there."""

  folder: Path

  def start(self, name: str, point: str = "", data: str = "data") -> subprocess.Popen[str]:
    module = ["benchmarks.campaign_kill", point, str(COUNTS.get(point, 1))] if point else ["convattn", "train"]
    return self._process(*module, *self._arguments(name, data))

  def _arguments(self, name: str, data: str) -> list[str]:
    settings = {**SETTINGS, "data.dir": self.folder / data}
    return [f"--workdir={self.folder / name}", *(f"--config.{key}={value}" for key, value in settings.items())]

  def _process(self, module: str, *arguments: str) -> subprocess.Popen[str]:
    kept = {
      "JAX_COMPILATION_CACHE_DIR": str(self.folder / "programs"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
      ending_with_parent([sys.executable, "-m", module, *arguments]),
      cwd=ROOT,
      env={**os.environ, **kept},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  @contextlib.contextmanager
  def worker(self) -> Iterator[Callable[[str], tuple[int, str]]]:
    """A function like `resume`, whose commands run one after another in one process."""
    process = self._process("benchmarks.campaign_worker")
    assert process.stdin is not None
    assert process.stdout is not None

    def resume(name: str) -> tuple[int, str]:
      print(json.dumps(self._arguments(name, "data")), file=process.stdin, flush=True)
      printed = ""
      for line in process.stdout:
        if line.startswith(END):
          return int(line.removeprefix(END)), printed
        printed += line
      return process.wait(), printed

    with process:
      yield resume
      process.stdin.close()

  def resume(self, name: str, data: str = "data") -> tuple[int, str]:
    """(exit status, what was printed) of the command that goes on in the folder `name`."""
    process = self.start(name, data=data)
    printed, _ = process.communicate()
    return process.returncode, printed


def outcome_of(run: Path, straight: Path, status: int, printed: str, lost: int | None = None) -> tuple[str, str]:
  """(outcome, detail) of a resumed run beside the straight one.

  Args:
    run: its workdir.
    straight: that of the run that nothing happened to.
    status: its exit status.
    printed: everything that it printed.
    lost: the step of the one checkpoint that was damaged, where one was.
  """
  if status or "Traceback" in printed:
    return "failure", f"exit status {status}: {printed[-1500:]}"
  ours, theirs = _numbers(run), _numbers(straight)
  fell_back = "does not count" in printed
  if ours == theirs:
    return ("fell back" if fell_back else "equal"), ""
  differing = sorted(name for name in theirs["result"] if ours["result"].get(name) != theirs["result"][name])
  if ours["lines"] == theirs["lines"] and fell_back and lost is not None:
    best = [theirs["result"]["best/step"] == lost, *(name.startswith("best/") for name in differing)]
    if all(best) and ours["result"].keys() == theirs["result"].keys():
      return "best lost", f"best/step is {ours['result']['best/step']}"
  return "failure", f"result.json differs in {differing}, metrics.jsonl {ours['lines'] != theirs['lines']}"


def _numbers(run: Path) -> dict[str, Any]:
  """result.json and metrics.jsonl of a finished run, without times."""
  result = json.loads((run / "result.json").read_text())
  lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
  result, *lines = [{key: value for key, value in each.items() if key not in TIMES} for each in (result, *lines)]
  return {"result": result, "lines": lines}


def killed_at_points(runner: Runner, points: Sequence[str]) -> Iterator[Trial]:
  """One run for each point, killed there and resumed."""
  for number, point in enumerate(points):
    name = f"point_{number}"
    data = f"data_{number}" if point == "preparing data" else "data"
    process = runner.start(name, point, data)
    printed, _ = process.communicate()
    if process.returncode != -signal.SIGKILL:
      yield Trial("kill at a point", point, "failure", f"was not killed, {process.returncode}: {printed[-1500:]}")
      continue
    ended = runner.resume(name, data)
    yield Trial("kill at a point", point, *outcome_of(runner.folder / name, runner.folder / "straight", *ended))
    shutil.rmtree(runner.folder / name)


def wait_for_metrics(process: subprocess.Popen[str], folder: Path) -> None:
  """Returns when the run in `folder` has written its first line of metrics, or has ended."""
  while process.poll() is None and not _text(folder / "metrics.jsonl"):
    time.sleep(0.002)


def killed_at_moments(
  runner: Runner, moments: int, seconds: tuple[float, float], draws: random.Random
) -> Iterator[Trial]:
  """Runs that are killed a random time after their first line, and every other one after its first line of metrics.

  `seconds` is what the straight one took from there to its end.
  """
  for number in range(moments):
    name, training = f"moment_{number}", number % 2
    moment = draws.uniform(0, seconds[training])
    process = runner.start(name)
    assert process.stdout is not None
    process.stdout.readline()
    if training:
      wait_for_metrics(process, runner.folder / name)
    time.sleep(moment)
    process.kill()
    process.communicate()
    folder = runner.folder / name
    last = max((int(step) for step in re.findall(r'"step": (\d+)', _text(folder / "metrics.jsonl"))), default=0)
    what = f"{moment:.2f} s after its first line{' of metrics' * training}, last line of step {last}"
    what += "" if process.returncode == -signal.SIGKILL else ", had ended"
    yield Trial("kill at a moment", what, *outcome_of(folder, runner.folder / "straight", *runner.resume(name)))
    shutil.rmtree(folder)


def _text(path: Path) -> str:
  return path.read_text() if path.exists() else ""


def damaged(runner: Runner, count: int, draws: random.Random) -> Iterator[Trial]:
  """A run that was killed before its result was there, one damage in each copy of it, resumed."""
  source = runner.folder / "interrupted"
  runner.start(source.name, "writing the result").communicate()
  with runner.worker() as resume:
    for number, (kind, what, damage) in enumerate(damages(source, count, draws)):
      copy = runner.folder / f"damage_{number}"
      shutil.copytree(source, copy)
      damage(copy / what.split(" ")[0])
      lost = int(Path(what).parts[1])
      yield Trial(kind, what, *outcome_of(copy, runner.folder / "straight", *resume(copy.name), lost=lost))
      shutil.rmtree(copy)


def table(trials: Sequence[Trial]) -> str:
  """One row a kind: trials, and how many ended in which way."""
  kinds = list(dict.fromkeys(trial.kind for trial in trials))
  rows = [("what", "trials", *GOOD, "failures")]
  for kind in [*kinds, "all"]:
    counts = Counter(trial.outcome for trial in trials if kind in (trial.kind, "all"))
    rows.append((kind, str(counts.total()), *(str(counts[name]) for name in GOOD), str(counts["failure"])))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "\n".join(
    "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
    for row in rows
  )


def campaign(folder: Path, points: Sequence[str], moments: int, count: int, seed: int) -> Iterator[Trial]:
  """Every trial, in `folder`."""
  runner, draws = Runner(folder), random.Random(seed)
  for name in ("straight", "again"):  # the second time with data and programs at hand
    process = runner.start(name)
    assert process.stdout is not None
    first = process.stdout.readline()
    started = time.perf_counter()
    wait_for_metrics(process, folder / name)
    trained = time.perf_counter()
    printed = first + process.communicate()[0]
    yield Trial("not killed", name, *outcome_of(folder / name, folder / "straight", process.returncode, printed))
  ended = time.perf_counter()
  yield from killed_at_points(runner, points)
  yield from killed_at_moments(runner, moments, (ended - started, ended - trained), draws)
  if count:
    yield from damaged(runner, count, draws)


def main(arguments: Sequence[str] | None = None) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--moments", type=int, default=20)
  parser.add_argument("--damages", type=int, default=20, help="drawn ones of each kind; 0: no damage at all")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--point", action="append", choices=[*POINTS, "none"], help="may be repeated; default: all")
  parser.add_argument("--folder", type=Path, help="where the runs go (default: a temporary one)")
  options = parser.parse_args(arguments)
  points = [point for point in options.point or POINTS if point != "none"]
  trials = []
  with tempfile.TemporaryDirectory() as temporary:
    folder = (options.folder or Path(temporary)).absolute()
    for trial in campaign(folder, points, options.moments, options.damages, options.seed):
      trials.append(trial)
      print(f"{len(trials):4}  {trial.outcome:9}  {trial.kind}: {trial.what}  {trial.detail}", flush=True)
  print(table(trials))
  facts = {"machine": f"{os.cpu_count()} × {platform.machine()}", "settings": SETTINGS, "seed": options.seed}
  options.out.parent.mkdir(parents=True, exist_ok=True)
  options.out.write_text(json.dumps({**facts, "trials": [dataclasses.asdict(trial) for trial in trials]}, indent=1))
  return int(any(trial.outcome not in GOOD for trial in trials))


if __name__ == "__main__":
  sys.exit(main())
