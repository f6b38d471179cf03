"""A small CoAtNet on Fashion-MNIST: grey pictures of clothing, 28x28 pixels, 55,000 of them to learn from.

Grids of 28, 14, 7, 7 and 4 cells a side: the stem keeps every pixel, since texture tells a shirt from a pullover;
attention begins at 7x7, where 49 cells see each other for less than the convolutions cost. A narrow stem and
expansion 2 in the convolution blocks, since at these widths the passes over wide, shallow maps take the time, not the
products: with a stem of 32 channels and expansion 4 a like model ran half as fast and learnt no more in as many
updates (docs/results.md).

The arguments: none, "quick" for a first look, "long" for as much as the model can learn.

command: python train.py --config=configs/fashion_mnist.py[:quick|:long] --workdir=runs/fashion_mnist
machine: one core of an AMD EPYC, the other one busy
memory, counted from shapes, of one batch over all devices:
  coatnet_mini_28: state 0.011 GiB, kept for the backward pass 0.26 GiB
time: 98 minutes, 30,924 updates at 359 images/s
result: 93.45 % of the test images with seed 0, 93.36 % with averaged weights; other seeds, quick and long: not run
"""

from convattn.training.config import Augmentation, Checkpoint, Data, Experiment, Loss, Model, Optimizer

TRAIN_IMAGES, BATCH_SIZE = 55_000, 64

LENGTHS = {"": (36, 0.1, 0.25), "quick": (8, 0.0, 0.1), "long": (150, 0.1, 0.5)}
"""Epochs, stochastic depth, share of the images in which a rectangle is erased: the more, the longer it trains."""


def get_config(length: str = "") -> Experiment:
  if length not in LENGTHS:
    raise ValueError(f"the argument must be one of {', '.join(map(repr, LENGTHS))}, got {length!r}")
  epochs, stochastic_depth, erasing = LENGTHS[length]
  epoch = TRAIN_IMAGES // BATCH_SIZE
  return Experiment(
    num_steps=epochs * epoch,
    batch_size=BATCH_SIZE,
    eval_batch_size=250,
    log_every=100,
    eval_every=epoch,
    ema_decay=0.9995,
    ema_warmup=True,
    data=Data("fashion_mnist"),
    model=Model("coatnet_mini_28", stochastic_depth=stochastic_depth),
    augmentation=Augmentation(crop_padding=2, flip=True, erasing=erasing),
    loss=Loss(label_smoothing=0.1),
    optimizer=Optimizer(peak_learning_rate=1e-3, warmup_steps=epoch, weight_decay=0.05),
    checkpoint=Checkpoint(every=epoch),
  )
