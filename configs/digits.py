"""The default experiment: a small CoAtNet on scans of handwritten digits, 8x8 pixels, 1,293 of them to learn from.

command: make train
machine: 2 CPU cores
memory, counted from shapes, of one batch over all devices:
  coatnet_mini_8: state 0.005 GiB, kept for the backward pass 0.05 GiB
time: 80 s, compilation included
result: 99.56 % of the test images over seeds 0 to 4 (99.72, 99.44, 99.72, 99.72, 99.17)
"""

from convattn.training.config import Augmentation, Experiment, Model, Optimizer


def get_config() -> Experiment:
  return Experiment(
    num_steps=2000,
    model=Model("coatnet_mini_8", stochastic_depth=0.2),
    augmentation=Augmentation(crop_padding=1, mixup_alpha=0.1),
    optimizer=Optimizer(peak_learning_rate=1e-3, warmup_steps=100, weight_decay=0.5),
    ema_decay=0.99,
  )
