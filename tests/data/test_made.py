"""Sets that are made, from the prepare command to batches of a run."""

import io

import numpy as np
import pytest
from PIL import Image

from convattn.commands import main
from convattn.data import distant_marks, evaluation_batches, load, mnist1d, stock, train_batch
from convattn.data.made import MADE
from convattn.errors import UserError

SMALL = {"train": 23, "validation": 7, "test": 9}


@pytest.fixture
def small(monkeypatch):
  monkeypatch.setattr(distant_marks, "SIZES", SMALL)
  monkeypatch.setattr(mnist1d, "SIZES", SMALL)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", MADE)
def test_what_is_prepared_is_what_was_made(name, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(stock, "_download_and_prepare", lambda *_: pytest.fail("with TensorFlow"))
  assert main(["prepare", name, f"--data_dir={tmp_path}"]) == 0
  assert capsys.readouterr().out.splitlines() == [str(tmp_path / name), "train 23", "validation 7", "test 9"]
  dataset, made = load(name, str(tmp_path)), MADE[name].parts()
  assert dataset.class_names == MADE[name].class_names
  assert dataset.image_shape == made["train"][0].shape[1:]
  for split, (images, labels) in made.items():
    (batch,) = evaluation_batches(getattr(dataset, split), len(labels))
    np.testing.assert_array_equal(batch["image"], images)
    np.testing.assert_array_equal(batch["label"], labels)
  first = train_batch(dataset.train, batch_size=5, seed=0, step=0)
  assert {image.tobytes() for image in first["image"]} <= {image.tobytes() for image in made["train"][0]}


@pytest.mark.usefixtures("small")
def test_a_second_time_nothing_is_made(tmp_path, capsys, monkeypatch):
  assert main(["prepare", "mnist1d", f"--data_dir={tmp_path}"]) == 0
  monkeypatch.setattr(mnist1d, "signals", lambda *_: pytest.fail("made again"))
  assert main(["prepare", "mnist1d", f"--data_dir={tmp_path}"]) == 0
  assert load("mnist1d", str(tmp_path)).image_shape == (1, 40, 1)


@pytest.mark.usefixtures("small")
def test_where_it_was_written_is_told(tmp_path):
  made = stock.prepare_stock("mnist1d", tmp_path)
  assert made == stock.prepare_stock("mnist1d", tmp_path) == tmp_path / "mnist1d" / "1.0.0"


def test_one_that_is_not_there_or_mistyped_is_one_line(tmp_path):
  for name, message in (
    ("mnist1d", f"data set 'mnist1d' is not in .*; make it with: convattn prepare mnist1d --data_dir={tmp_path}"),
    ("mnist1d_shufled", "unknown data set 'mnist1d_shufled'; did you mean 'mnist1d_shuffled'"),
    ("mnist1d/small", "unknown data set 'mnist1d/small'; did you mean 'mnist1d'"),  # there are no configurations
    ("distant_marks", "unknown data set 'distant_marks'; did you mean 'distant_marks_8'"),
  ):
    with pytest.raises(UserError, match=message) as raised:
      load(name, str(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("small")
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, capsys):
  (tmp_path / "file").write_text("")
  assert main(["prepare", "mnist1d", f"--data_dir={tmp_path / 'file'}"]) == 2
  said = capsys.readouterr().err
  assert "cannot prepare data set 'mnist1d' in" in said and said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("model", ["row_d", "row_cctt"])
def test_pictures_of_one_row_go_all_the_way(model, tmp_path, capsys, monkeypatch):
  """Trained, scored, predicted, exported and drawn, as any pictures are."""
  monkeypatch.setattr(mnist1d, "SIZES", {"train": 60, "validation": 20, "test": 20})
  assert main(["prepare", "mnist1d", f"--data_dir={tmp_path}"]) == 0
  run, picture = tmp_path / "run", tmp_path / "one.png"
  options = {"num_steps": 2, "eval_every": 2, "checkpoint.every": 2, "batch_size": 20, "eval_batch_size": 20}
  options |= {"optimizer.warmup_steps": 1, "explore": 2}
  settings = [f"--config.{name}={value}" for name, value in (options | {"data.dir": tmp_path}).items()]
  assert main(["train", f"--config=configs/mnist1d.py:{model}", f"--workdir={run}", *settings]) == 0
  assert "data: 10 classes in" in capsys.readouterr().out
  stream = io.BytesIO()
  Image.fromarray(mnist1d.parts(shuffled=False)["test"][0][0][..., 0]).save(stream, "PNG")
  picture.write_bytes(stream.getvalue())
  assert main(["evaluate", f"--checkpoint={run}", f"--config.data.dir={tmp_path}"]) == 0
  assert main(["predict", f"--checkpoint={run}", "--top=10", str(picture)]) == 0
  assert capsys.readouterr().out.count("%") >= 10
  assert main(["export", f"--checkpoint={run}", f"--out={tmp_path / 'model.jax'}"]) == 0
  assert main(["summary", str(run)]) == 0
  assert main(["report", f"--workdir={run}"]) == 0
  assert (run / "confusion.png").is_file()
  # What has no layer that attends says so.
  assert (run / "explore.html").is_file() == (model == "row_cctt")
