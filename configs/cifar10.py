"""A small CoAtNet on CIFAR-10: 50,000 colour pictures of 32x32 pixels, a tenth of which is kept out to validate on.

It has not been run: the pictures cannot be downloaded where this was written. The tests run it at a reduced size, from
encoded pictures to the result. The settings are those of configs/digits.py, for larger pictures and more of them.

command: convattn prepare cifar10 && python train.py --config=configs/cifar10.py --workdir=runs/cifar10
machine: not run
memory, counted from shapes, of one batch over all devices:
  coatnet_mini_32: state 0.135 GiB, kept for the backward pass 4.59 GiB
time: not run; 35,156 updates
result: not run
"""

from convattn.training.config import Augmentation, Checkpoint, Data, Experiment, Model, Optimizer

TRAIN_IMAGES, BATCH_SIZE, EPOCHS = 45_000, 128, 100


def get_config() -> Experiment:
  epoch = TRAIN_IMAGES // BATCH_SIZE
  return Experiment(
    num_steps=EPOCHS * TRAIN_IMAGES // BATCH_SIZE,
    batch_size=BATCH_SIZE,
    log_every=50,
    eval_every=epoch,
    ema_decay=0.999,
    data=Data("cifar10"),
    model=Model("coatnet_mini_32", stochastic_depth=0.1),
    augmentation=Augmentation(crop_padding=4, flip=True, mixup_alpha=0.2),
    optimizer=Optimizer(peak_learning_rate=1e-3, warmup_steps=5 * epoch, weight_decay=0.05),
    checkpoint=Checkpoint(every=epoch),
  )
