"""Two marks far apart, of which the class says which stands left: convolution, attention and both, in the same time.

The argument behind the file's name is MODEL@DISTANCE: patch_cc (two convolution blocks), patch_ct (convolution, then
attention) or patch_tt (two attention blocks) of 32 channels on patches of 4x4 pixels, and 8, 16 or 24 pixels from mark
to mark. What the layers of patch_cc see together is 20 pixels wide.

command: convattn prepare distant_marks_24 &&
  python train.py --config=configs/distant_marks.py:patch_ct@24 --workdir=runs/distant_marks
machine: one core of an AMD EPYC, shared
memory, counted from shapes, of one batch over all devices:
  patch_ct: state 0.000 GiB, kept for the backward pass 0.04 GiB
time: 42 s, compilation included
result: 100.0 % of the test pictures at 24 pixels with seed 0, where patch_cc has 48.8 %; all models and distances in
  docs/data.md
"""

import re

from convattn.training.config import Checkpoint, Data, Experiment, Model, Optimizer


def get_config(model_and_distance: str = "patch_ct@24") -> Experiment:
  """The experiment of a model and a distance: "patch_cc@8"."""
  match = re.fullmatch(r"(patch_(?:cc|ct|tt))@(8|16|24)", model_and_distance)
  if not match:
    raise ValueError(
      "the argument must be MODEL@DISTANCE with a model patch_cc, patch_ct or patch_tt and a distance 8, 16 or 24, got "
      f"{model_and_distance!r}."
    )
  model, distance = match.groups()
  return Experiment(
    num_steps=600,
    eval_batch_size=500,
    log_every=50,
    data=Data(f"distant_marks_{distance}"),
    model=Model(model),
    optimizer=Optimizer(peak_learning_rate=3e-3, warmup_steps=60),
    checkpoint=Checkpoint(every=600),
  )
