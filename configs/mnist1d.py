"""MNIST-1D (Greydanus & Kobak 2020), pictures of one row: convolution, attention and both; its points shuffled or not.

The argument behind the file's name is MODEL or MODEL@shuffled: row_cccc (four convolution blocks), row_cctt (two, then
two attention blocks), row_tttt (four attention blocks), row_d (five dilated causal convolutions) or row_dt (three, then
an attention block). With @shuffled the points of all examples stand in one other order, and neighbours say nothing.

command: convattn prepare mnist1d && python train.py --config=configs/mnist1d.py:row_cctt --workdir=runs/mnist1d
machine: one core of an AMD EPYC, shared
memory, counted from shapes, of one batch over all devices:
  row_cctt: state 0.001 GiB, kept for the backward pass 0.03 GiB
time: 40 s, compilation included
result: 98.4 % of the test pictures with seed 0, shuffled 56.6 %; the other models in docs/data.md
"""

import re

from convattn.training.config import Checkpoint, Data, Experiment, Model, Optimizer


def get_config(model_and_order: str = "row_cctt") -> Experiment:
  """The experiment of a model and an order of the points: "row_cccc", or "row_cccc@shuffled"."""
  match = re.fullmatch(r"(row_(?:cccc|cctt|tttt|d|dt))(@shuffled)?", model_and_order)
  if not match:
    raise ValueError(
      "the argument must be MODEL or MODEL@shuffled with a model row_cccc, row_cctt, row_tttt, row_d or row_dt, got "
      f"{model_and_order!r}."
    )
  return Experiment(
    num_steps=600,
    batch_size=100,
    eval_batch_size=500,
    log_every=50,
    data=Data("mnist1d_shuffled" if match[2] else "mnist1d"),
    model=Model(match[1]),
    optimizer=Optimizer(peak_learning_rate=3e-3, warmup_steps=60),
    checkpoint=Checkpoint(every=600),
  )
