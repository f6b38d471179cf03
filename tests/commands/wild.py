"""Wild settings and files, and a train command that does all in earnest but its first step: for test_wild.py.

Settings, files, data, model, mesh, the tracing of both steps, the checks of the task, the workdir: then it is stopped.
"""

import contextlib
import io
import os
import shutil
import typing
from unittest import mock

import jax
import numpy as np
import PIL.Image
from hypothesis import strategies as st

from convattn.commands import main
from convattn.training import runs
from convattn.training.config import Experiment
from convattn.training.loop import Loop
from convattn.training.program import run_keys
from convattn.training.settings import apply_overrides, fields, parse_value, settings, validate
from convattn.training.sharding import put_batch
from convattn.training.task import ALL_ROWS

KINDS = {name: kind for name, kind, _ in settings(Experiment())}
FIELDS = {name: field for name, field, _, _ in fields(Experiment())}

NUMBERS = ["-1", "0", "1", "2", "3", "4", "7", "8", "16", "100", "512", "99999999", "3000000000", "9" * 19, "9" * 30]
REALS = ["-1", "-0.0", "0", "0.1", "0.5", "1", "1.5", "31", "1e-45", "1e-300", "1e38", "1e300", "nan", "inf", "-inf"]
WORDS = ["", " ", "None", "none", "nan", "\n", "\0", "../..", "ä" * 300, "0", "a,b", "block_0", "{}"]
TEXTS = {
  "model.name": ["coatnet_mini_8", "coatnet_mini_8", "coatnet_mini_16", "coatnet_mini", "coatnet_0", ""],
  "data.name": ["digits", "folder", "cifar10", "imagenet2012/1", "digit", "../digits", "d\0"],
  "data.classes": ["0-1", "1,0", "0", "0-99999999999", "5-2", "0,0", "1-", "-1", "0-1,9"],
  "optimizer.freeze": ["stem", "stem,stage_1", "stage_2/block_0", "stage_9", "stem,stage_1,stage_2,classifier", ","],
  "init_from": ["", "nowhere", "/dev/null", "no_tag.at_all", "x.safetensors", "{root}", "{root}/run"],
  "data.dir": ["{root}/pictures", "{root}/data", "{root}/nowhere", "{root}/note.txt", "{root}/broken", "{root}/empty"],
}
"""Of settings that have a text; {root} is the folder of this test."""

POOLS = {int: NUMBERS, float: REALS, bool: ["true", "false", "maybe", "1"], str: WORDS}


def pool(name):
  """Texts for a setting, of its type, and those of them that the check of single settings lets pass."""
  kind = next(each for each in (typing.get_args(KINDS[name]) or (KINDS[name],)) if each is not type(None))
  words = FIELDS[name].metadata["choices"]
  own = [*words, *TEXTS.get(name, ())] or POOLS[kind]

  def passes(text):
    try:
      validate(apply_overrides(Experiment(num_steps=2**31 - 1), [(name, text)]))
    except ValueError:
      return False
    return True

  return own, [text for text in own if passes(text)]


POOL = {name: pool(name) for name in KINDS}

COUPLED = [
  {"batch_size": "8", "micro_batches": "3"},
  {"micro_batches": "4", "batch_size": "16"},
  {"compute.fsdp": "3"},
  {"compute.fsdp": "2", "batch_size": "4"},
  {"eval_every": "7", "checkpoint.every": "10"},
  {"num_steps": "3", "optimizer.warmup_steps": "3"},
  {"compute.debug_nans": "true", "max_skipped_steps": "2"},
  {"data.name": "folder", "data.dir": "{root}/pictures", "data.image_size": "8"},
  {
    "data.name": "folder",
    "data.dir": "{root}/pictures",
    "data.image_size": "8",
    "augmentation.randaugment_layers": "2",
  },
  {"data.name": "folder", "data.dir": "{root}/broken", "data.image_size": "8", "data.broken": "skip"},
  {"data.name": "folder", "data.dir": "{root}/broken", "data.image_size": "8"},
  {"data.name": "folder", "data.dir": "{root}/pictures", "data.classes": "1"},
  {"data.images_per_class": "1", "data.name": "folder", "data.dir": "{root}/pictures", "data.image_size": "9"},
]
"""Settings that only mean something, or contradict each other, together."""


@st.composite
def texts(draw, name):
  """What somebody might write for a setting: sensible, odd, or of another type."""
  own, passing = POOL[name]
  if name == "data.dir":  # nothing is to be prepared anywhere else
    return draw(st.sampled_from(own))
  if name == "data.workers":  # none are to be started
    return draw(st.sampled_from(["-1", "0", "x", "1.5", "3000000000"]))
  kind = draw(st.integers(0, 19))
  if kind < 17:
    return draw(st.sampled_from(passing if kind < 14 and passing else own))
  others = [text for texts in POOLS.values() for text in texts]
  return draw(st.sampled_from(others) if kind < 19 else st.text(max_size=20))


@st.composite
def wild(draw):
  """{setting: text} of a few settings."""
  chosen = dict(draw(st.sampled_from([{}, *COUPLED])))
  for name in draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=4, unique=True)):
    chosen[name] = draw(texts(name))
  return chosen


class Ready(Exception):
  """The run has come to its first step."""


def stop_at_the_first_step(loop, variables):
  """In the place of `Loop.train`: what the first update and the first evaluation would have compiled, is traced."""
  program, task = loop.program, loop.task
  init_key, train_key = run_keys(loop.experiment.seed)
  state = jax.eval_shape(program.init, init_key)
  jax.eval_shape(program.train_step, state, task.train_rows(0, ALL_ROWS), train_key)
  put_batch(task.train_rows(0, ALL_ROWS), program.mesh)
  loop.change.record(0)
  raise Ready


@contextlib.contextmanager
def harness(folder):
  """Data of every kind in `folder`, a run, and nothing of it reaches the process or its user."""
  make_data(folder)
  environment = {**os.environ, "TFDS_DATA_DIR": str(folder / "data"), "HF_HUB_OFFLINE": "1"}
  with (
    mock.patch.object(Loop, "train", stop_at_the_first_step),
    mock.patch.object(runs, "request_deterministic_kernels"),
    mock.patch("convattn.training.determinism.request_deterministic_kernels"),
    mock.patch.dict(os.environ, environment),
  ):
    assert outcome(folder, command_line(folder, {}, folder / "run")) is None
    (folder / "run" / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.5}\n')
    (folder / "run" / "note.txt").write_text("the user's own")
    yield folder


def picture(kind):
  stream = io.BytesIO()
  PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 11, 3), np.uint8)).save(stream, kind)
  return stream.getvalue()


def make_data(folder):
  draws = np.random.default_rng(0)
  for root in ("pictures", "broken"):
    for split, count in (("train", 3), ("validation", 2)):
      for name in ("cat", "dog"):
        for i in range(count):
          path = folder / root / split / name / f"{i}.png"
          path.parent.mkdir(parents=True, exist_ok=True)
          PIL.Image.fromarray(draws.integers(0, 255, (9, 11, 3), np.uint8)).save(path)
  for path in (folder / "broken").rglob("*.png"):
    path.write_bytes(path.read_bytes()[:60])
  (folder / "empty").mkdir()
  (folder / "note.txt").write_text("no folder")


BASE = {"batch_size": "8", "eval_batch_size": "8", "num_steps": "9", "optimizer.warmup_steps": "0"}


def command_line(folder, chosen, workdir):
  values = {**BASE, **chosen}
  options = [f"--config.{name}={text.replace('{root}', str(folder))}" for name, text in values.items()]
  return ["train", f"--workdir={workdir}", *options]


def in_a_file(folder, chosen, workdir):
  """The same from Python, where a value may have any type: what cannot be read as the setting's own stays a text."""
  values = {}
  for name, text in {**BASE, **chosen}.items():
    text = text.replace("{root}", str(folder))
    try:
      values[name] = parse_value(name, FIELDS[name], KINDS[name], text)
    except ValueError:
      values[name] = {"nan": float("nan"), "inf": float("inf"), "-inf": -float("inf"), "": None, " ": []}.get(
        text, text
      )
  lines = [f"  experiment = put(experiment, {name.split('.')}, {value!r})" for name, value in values.items()]
  (folder / "wild.py").write_text("\n".join([_FILE, *lines, "  return experiment", ""]), encoding="utf-8")
  return ["train", f"--workdir={workdir}", f"--config={folder / 'wild.py'}"]


_FILE = """
import dataclasses
from convattn.training.config import Experiment

nan, inf = float("nan"), float("inf")

def put(node, path, value):
  head, *rest = path
  return dataclasses.replace(node, **{head: put(getattr(node, head), rest, value) if rest else value})

def get_config():
  experiment = Experiment()"""


def outcome(folder, arguments):
  """None if the run came to its first step, else the one line that says why not."""
  with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
    try:
      status = main(arguments)
    except Ready:
      return None
  lines = [line for line in err.getvalue().splitlines() if not line.startswith("skipped: ")]
  assert (status, len(lines)) == (2, 1), err.getvalue()
  assert lines[0].startswith("convattn train: ") and len(lines[0]) < 2000
  return lines[0]


def contents(folder):
  return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check(folder, chosen, write):
  """In a new workdir, and in that of a run."""
  new, run = folder / "new", folder / "run"
  refusal = outcome(folder, write(folder, chosen, new))
  assert refusal is None or not new.exists(), f"left behind after {refusal}"
  shutil.rmtree(new, ignore_errors=True)
  before = contents(run)
  refused_there = outcome(folder, write(folder, chosen, run))
  after = contents(run)
  if refused_there is None:  # a setting that may change in a run is what config.json says then
    before.pop(run / "config.json"), after.pop(run / "config.json")
  assert after == before
  assert refusal is None or refused_there is not None
  return refusal
