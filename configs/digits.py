"""The default experiment: a small CoAtNet on 1,437 scans of handwritten digits, 8x8 pixels.

command: make train
machine: 2 CPU cores
time: not measured yet
result: not measured yet
"""

from convattn.training.config import Augmentation, Experiment, Loss, Optimizer


def get_config() -> Experiment:
  return Experiment(
    num_steps=1000,
    augmentation=Augmentation(crop_padding=1),
    loss=Loss(label_smoothing=0.1),
    optimizer=Optimizer(warmup_steps=100),
  )
