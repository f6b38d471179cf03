"""Fine-tuning from a checkpoint: other classes, another resolution, ten images per class.

First a small model learns the digits 0 to 4 at 8x8 pixels; from its weights this experiment learns 5 to 9 at 12x12.

command: python train.py --config=configs/finetune.py:pretrain --workdir=runs/pretrain, and then
  python train.py --config=configs/finetune.py --workdir=runs/finetune
machine: 2 CPU cores
memory, counted from shapes, of one batch over all devices:
  coatnet_mini_8: state 0.005 GiB, kept for the backward pass 0.06 GiB
time: a few minutes for both; not measured on a quiet machine
result: 91.0 % of the 180 test images, the mean of seeds 0 to 4 (benchmarks/transfer.py); from drawn weights 76.8 %
"""

import dataclasses

from convattn.training.config import Augmentation, Data, Experiment, Model, Optimizer


def get_config(part: str = "finetune") -> Experiment:
  """The experiment of one part: "pretrain" or "finetune", which starts from the other's workdir, runs/pretrain."""
  # In so few steps BatchNorm's running averages would not settle where the weights start from drawn ones.
  model = Model("coatnet_mini_8", conv_norm="layer")
  if part == "pretrain":
    return Experiment(
      num_steps=500,
      data=Data(classes="0-4"),
      model=dataclasses.replace(model, stochastic_depth=0.1),
      augmentation=Augmentation(crop_padding=1, mixup_alpha=0.2, resized_crop_area=0.4),
      optimizer=Optimizer(peak_learning_rate=1e-3, warmup_steps=30, weight_decay=0.5),
      ema_decay=0.99,
    )
  if part == "finetune":
    return Experiment(
      num_steps=30,
      batch_size=32,
      data=Data(classes="5-9", images_per_class=10, image_size=12),
      init_from="runs/pretrain",
      model=model,
      augmentation=Augmentation(crop_padding=1),
      optimizer=Optimizer(peak_learning_rate=2e-3, warmup_steps=3),
      ema_decay=0.9,
    )
  raise ValueError(f"the parts are 'pretrain' and 'finetune', got {part!r}.")
