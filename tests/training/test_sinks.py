"""What TensorBoard and Weights & Biases get."""

import struct
import sys
import types

import pytest

from convattn.training.config import Experiment
from convattn.training.settings import validate
from convattn.training.writer import WANDB_ID, Writer, open_sinks


def _events(folder):
  """(step, name, value) of everything in the one event file there."""
  from tensorboardX.proto.event_pb2 import Event

  (path,) = folder.iterdir()
  data, scalars = path.read_bytes(), []
  while data:  # each record: its length, a checksum, the record, a checksum
    (length,) = struct.unpack("<Q", data[:8])
    event = Event.FromString(data[12 : 12 + length])
    scalars += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    data = data[16 + length :]
  return scalars


def test_tensorboard_gets_the_same_numbers(tmp_path):
  pytest.importorskip("tensorboardX")
  with Writer(tmp_path, 0, open_sinks(tmp_path)) as lines:
    lines.write(3, {"train/loss": 0.25, "validation/accuracy": 0.5})
    lines.write(5, {"train/loss": 0.125})
  expected = [(3, "train/loss", 0.25), (3, "validation/accuracy", 0.5), (5, "train/loss", 0.125)]
  assert _events(tmp_path / "tensorboard") == expected


def test_a_resumed_run_writes_every_kept_event_again(tmp_path):
  pytest.importorskip("tensorboardX")
  with Writer(tmp_path, 0) as lines:  # as if all its events had been lost
    for step in (2, 4, 6):
      lines.write(step, {"train/loss": 1 / step})
  expected = [(2, 0.5), (4, 0.25), (5, 0.125)]
  (tmp_path / "tensorboard").mkdir()
  (tmp_path / "tensorboard" / "events.out.tfevents.1.killed").write_bytes(b"some of them")
  for _ in range(2):
    with Writer(tmp_path, 4, open_sinks(tmp_path)) as lines:
      lines.write(5, {"train/loss": 0.125})
  assert _events(tmp_path / "tensorboard") == [(step, "train/loss", value) for step, value in expected]


class FakeWandb(types.ModuleType):
  """Takes the calls that the adapter makes of wandb."""

  def __init__(self):
    super().__init__("wandb")
    self.started, self.logged, self.finished = [], [], 0

  def init(self, **options):
    self.started.append(options)
    return types.SimpleNamespace(log=lambda numbers, step: self.logged.append((step, numbers)), finish=self._finish)

  def _finish(self):
    self.finished += 1


def test_weights_and_biases_gets_each_line_once(tmp_path, monkeypatch):
  wandb = FakeWandb()
  monkeypatch.setitem(sys.modules, "wandb", wandb)
  settings = {"seed": 3}
  with Writer(tmp_path, 0, open_sinks(tmp_path, 0, "project", settings)) as lines:
    for step in (2, 4, 6):
      lines.write(step, {"train/loss": 1 / step})
  with Writer(tmp_path, 4, open_sinks(tmp_path, 4, "project", settings)) as lines:  # continued after step 4
    lines.write(6, {"train/loss": float("nan")})
  assert wandb.logged == [(step, {"train/loss": 1 / step}) for step in (2, 4, 6)] + [(6, {"train/loss": None})]
  assert wandb.finished == 2
  assert len(wandb.started) == 2
  for options in wandb.started:
    assert options["project"] == "project"
    assert (options["id"], options["resume"]) == ((tmp_path / WANDB_ID).read_text(), "allow")
    assert options["config"] == settings


def test_without_a_project_weights_and_biases_is_not_even_imported(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)  # an import would fail
  with Writer(tmp_path, 0, open_sinks(tmp_path)) as lines:
    lines.write(1, {"train/loss": 1.0})


def test_a_project_without_the_package_is_refused_before_anything_else(monkeypatch):
  monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
  with pytest.raises(ValueError, match="wandb_project is 'p', but Weights & Biases is not installed"):
    validate(Experiment(wandb_project="p"))
