"""What a run of a study came to: accuracy of its final weights, and on which test images it was right."""

from __future__ import annotations

import dataclasses
import io
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from convattn.data import Dataset
from convattn.errors import UserError, one_line
from convattn.files import write_whole
from convattn.inference import outcomes_of, restore_classifier
from convattn.study.plan import Run
from convattn.training.classification import load_dataset
from convattn.training.config import Experiment
from convattn.training.workdir import read_json, write_json

SCORES = "scores"
"""The folder of what is kept of each run: SCORES/SETTING/seed_N.json, and beside it .npz of a run that was tested."""

_DRAW = 0
"""Seed by which the training images are drawn that a run is scored on."""


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
  """Of one run.

  Attributes:
    accuracy: {"train", "test"} of a run with a seed, {"validation"} of one that tunes; {} where it diverged.
    images: as many images were scored, by the same names.
    correct: bool [test images]; None where the test part was not scored.
    seconds: of training and scoring.
    state_sha256: of the state that the run ended with; empty where it diverged.
    diverged: what was not finite, or empty.
  """

  accuracy: dict[str, float]
  images: dict[str, int]
  correct: np.ndarray | None
  seconds: float
  state_sha256: str
  diverged: str = ""


def score(run: Run, workdir: Path, experiment: Experiment, result: dict[str, Any], train_images: int) -> Score:
  """Scores the final weights of a finished run, averaged ones where it keeps an average, on images as they are.

  Raises:
    UserError: its final checkpoint is gone or damaged, or a picture cannot be read.
    FloatingPointError: logits that are not finite.
  """
  started = time.perf_counter()
  restored = restore_classifier(workdir)
  if restored.step != result["step"]:
    raise UserError(
      f"{workdir} ended after step {result['step']}, but its newest whole checkpoint is of step {restored.step}; "
      f"delete {workdir} to train it anew."
    )
  dataset = load_dataset(Experiment(data=experiment.data), restored.preprocessing)
  dataset = dataclasses.replace(dataset, train=_part(dataset, train_images))
  splits = ("train", "test") if run.candidate is None else ("validation",)
  size = experiment.eval_batch_size
  found = {
    split: outcomes_of(restored, dataset, split, batch_size=size, workers=experiment.data.workers).rank == 0
    for split in splits
  }
  return Score(
    accuracy={split: int(right.sum()) / len(right) for split, right in found.items()},
    images={split: len(right) for split, right in found.items()},
    correct=found.get("test"),
    seconds=result["seconds"] + time.perf_counter() - started,
    state_sha256=result["state_sha256"],
  )


def _part(dataset: Dataset, number: int) -> Any:
  """`number` of the training images, drawn without replacement; all of them if there are no more."""
  source = dataset.labelled["train"]
  if len(source) <= number:
    return source
  drawn = np.sort(np.random.default_rng(_DRAW).permutation(len(source))[:number])
  return source.take(drawn, source.labels[drawn])


def write_score(folder: Path, run: Run, scored: Score) -> None:
  """Keeps the score of a run of the study in `folder`; the JSON comes last and says that all is there."""
  path = _path(folder, run)
  path.parent.mkdir(parents=True, exist_ok=True)
  fields = {field.name: getattr(scored, field.name) for field in dataclasses.fields(Score) if field.name != "correct"}
  if scored.correct is not None:
    content = io.BytesIO()
    np.savez_compressed(content, correct=scored.correct)
    write_whole({path.with_suffix(".npz"): content.getvalue()})
  write_json(path, fields)


def read_score(folder: Path, run: Run) -> Score | None:
  """What `write_score` kept; None before.

  Raises:
    UserError: it is damaged.
  """
  path = _path(folder, run)
  advice = f"delete {path}: the run is then scored anew."
  stored = read_json(path, advice)
  if stored is None:
    return None
  try:
    scored = Score(**stored, correct=None)
    if "test" in scored.accuracy:
      content = io.BytesIO(path.with_suffix(".npz").read_bytes())  # NumPy leaves a damaged file open
      with np.load(content, allow_pickle=False) as arrays:
        scored = dataclasses.replace(scored, correct=arrays["correct"])
      if scored.correct is None or scored.correct.shape != (scored.images["test"],):
        raise ValueError("it is of other images")
  # Of a damaged .npz NumPy raises what its layers do: of zip, zlib and pickle.
  except (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
    raise UserError(f"{path} or the .npz beside it is damaged ({one_line(error)}); {advice}") from error
  return scored


def _path(folder: Path, run: Run) -> Path:
  return folder / SCORES / f"{run.name}.json"
