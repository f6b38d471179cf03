"""The summary command: one table for names, tags and runs, made from shapes alone."""

import jax
import numpy as np
import pytest

from convattn import create_model
from convattn.analysis import costs, memory
from convattn.commands.options import pixels
from convattn.errors import UserError


def table(out):
  """(first line, {part: [parameters, multiply-adds, activations, MiB of parameters, MiB kept]})."""
  first, header, *rows = out.splitlines()
  assert header.split() == [
    "part",
    "output",
    "parameters",
    "multiply-adds",
    "activations",
    "params",
    "MiB",
    "kept",
    "MiB",
  ]
  return first, {row.split()[0]: [float(cell.replace(",", "")) for cell in row.split()[-5:]] for row in rows}


def test_a_model_by_name_in_a_size_of_its_own(call):
  options = ("--image_size=64x96", "--num_classes=7", "--dtype=bfloat16", "--remat=dots", "--batch_size=3")
  before = {id(array) for array in jax.live_arrays()}
  status, out, err = call("summary", "test_coatnet", *options)
  assert sum(array.nbytes for array in jax.live_arrays() if id(array) not in before) < 2**20  # no variables
  assert (status, err) == (0, "")
  first, rows = table(out)
  assert first == "test_coatnet | 64 × 96 × 3 | 7 classes | bfloat16 | remat dots | 3 images"
  assert "stage_3 4 × 6 × 96 " in " ".join(out.split())
  assert list(rows) == ["stem", "stage_1", "stage_2", "stage_3", "stage_4", "classifier", "total"]
  model = create_model("test_coatnet", 7, "bfloat16", remat="dots")
  expected, held = costs(model, (64, 96, 3)), memory(model, (64, 96, 3))
  sums = [sum(getattr(row, name) for row in expected) for name in ("parameters", "multiply_adds", "activations")]
  assert rows["total"][:3] == sums
  bytes_ = sum(row.parameters for row in held), sum(row.kept(3) for row in held)
  np.testing.assert_allclose(np.array(rows["total"][3:]) * 2**20, bytes_, rtol=0, atol=0.0051 * 2**20)
  np.testing.assert_allclose(np.sum([rows[name] for name in list(rows)[:-1]], 0), rows["total"], rtol=0, atol=0.036)


@pytest.mark.slow  # of a small one above; what the largest counts is in models/test_sizes.py
def test_the_largest_model_makes_no_variables(call):
  before = {id(array) for array in jax.live_arrays()}
  status, out, _ = call("summary", "coatnet_7", "--remat=block")
  assert status == 0
  assert table(out)[1]["total"][0] == 2_441_972_728
  made = [array.nbytes for array in jax.live_arrays() if id(array) not in before]
  assert sum(made) < 2**20


@pytest.mark.parametrize(
  ("name", "first"),
  [
    ("coatnet_2_rw_224.sw_in12k", "224 × 224 × 3 | 11821 classes"),
    ("coatnet_rmlp_2_rw_384", "384 × 384 × 3 | 1000 classes"),
    ("test_coatnet.untrained", "160 × 160 × 3 | 1000 classes"),
    ("coatnet_mini_8x8", "8 × 8 × 3 | 1000 classes"),
    ("coatnet_mini_32", "32 × 32 × 3 | 1000 classes"),
    ("layout_cctt_28", "28 × 28 × 3 | 1000 classes"),
    ("patch_ct", "16 × 80 × 3 | 1000 classes"),
    ("row_dt", "1 × 40 × 3 | 1000 classes"),
  ],
)
def test_what_a_name_stands_for_needs_no_network(name, first, call, monkeypatch):
  def refuse(*_):
    raise AssertionError("weights were asked for")

  monkeypatch.setattr("convattn.pretrained.loading.find_weights", refuse)
  monkeypatch.setattr("convattn.analysis.summary_table", lambda *_: "")
  status, out, err = call("summary", name)
  assert (status, err) == (0, "")
  assert out.startswith(f"{name} | {first} | float32 | remat none | 1 image\n")


def test_a_run_is_what_its_description_says(digits_run, call):
  status, out, err = call("summary", digits_run)
  assert (status, err) == (0, "")
  assert out.startswith(f"{digits_run} | 8 × 8 × 1 | 10 classes | float32 | remat none | 1 image\n")
  assert call("summary", digits_run, "--num_classes=0")[1].splitlines()[-2].split()[:2] == ["classifier", "32"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "name one model, tag or run, such as convattn summary coatnet_2; got none."),
    (["coatnet_0", "coatnet_1"], "name one model, tag or run, such as convattn summary coatnet_2; got coatnet_0 coat"),
    (["coatnet_22"], "there is no model 'coatnet_22'; did you mean coatnet_2"),
    (
      ["coatnet_0_rw_224.sw_in1l"],
      "timm has no CoAtNet 'coatnet_0_rw_224.sw_in1l'; did you mean coatnet_0_rw_224.sw_in",
    ),
    (["runs/nowhere"], "there is no folder runs/nowhere; name a run's workdir"),
    (["coatnet_0", "--remat=all"], "--remat must be one of none, block, dots, got 'all'."),
    (["coatnet_0", "--dtype=float8"], "--dtype must be one of float32, bfloat16, got 'float8'."),
    (["coatnet_0", "--batch_size=0"], "--batch_size must be a whole number of at least 1, got '0'."),
    (["coatnet_0", "--num_classes=-1"], "--num_classes must be a whole number of at least 1, got '-1'."),
    (["coatnet_0", "--size=3"], "there is no option --size; did you mean --"),
  ],
)
def test_a_wrong_request_is_one_line(arguments, message, refusal):
  line, out = refusal("summary", *arguments)
  assert line.startswith(message)
  assert out == ""


def test_pixels_are_one_number_or_two():
  assert pixels("image_size", "384") == (384, 384)
  assert pixels("image_size", "8x512") == (8, 512)
  for text in ("", "x", "8x", "8x8x8", "-8", "8.0", "0", "8X8", "٣"):
    with pytest.raises(UserError, match="--image_size must be a number of pixels such as 384"):
      pixels("image_size", text)
