"""CoAtNet-0 to -3 on ImageNet-1k at 224 pixels from drawn weights, as the paper does it (Dai et al. 2021, Table 10).

It has not been run: there were neither the pictures nor a machine for it. The tests run it at a reduced size, from
encoded pictures to a finished step, and lower both of its steps at full size for CPU, CUDA and TPU. The argument behind
the file's name is the model, coatnet_0 to coatnet_3, in any of its forms (coatnet_0_rw_224, ...).

From the table, its column for training on ImageNet-1k: 300 epochs, batches of 4096, AdamW, learning rate 1e-3 after
10,000 steps of warm-up, falling along a cosine to 1e-5, weight decay 0.05, gradients clipped to norm 1, label smoothing
0.1, mixup 0.8, RandAugment of 2 layers and magnitude 15, stochastic depth 0.2, 0.3, 0.5 and 0.7 for coatnet_0 to _3, no
averages. Flips and random crops are not in the table; they are ImageNet's usual ones. bfloat16 is our choice.

command: python train.py --config=configs/imagenet.py:coatnet_0 --config.data.workers=16 --workdir=runs/coatnet_0
  once `convattn prepare imagenet2012 --manual_dir=DIR` has made the data; or --config.data.name=folder
  --config.data.dir=DIR for pictures in DIR/train/n01440764/*.JPEG and so on, and DIR/validation
machine: not run; meant for several GPUs or TPU cores. A batch that does not fit them: --config.micro_batches=N,
  --config.compute.remat=block; docs/scaling.md counts
memory, counted from shapes, of one batch over all devices:
  coatnet_0: state 0.280 GiB, kept for the backward pass 685.02 GiB;
  coatnet_1: state 0.472 GiB, kept for the backward pass 1,110.92 GiB;
  coatnet_2: state 0.835 GiB, kept for the backward pass 1,526.76 GiB;
  coatnet_3: state 1.866 GiB, kept for the backward pass 2,289.56 GiB
time: not run; 93,835 updates
result: not run; the paper reports 81.6, 83.3, 84.1 and 84.5 % for its models
"""

import re

from convattn.training.config import Augmentation, Checkpoint, Compute, Data, Experiment, Loss, Model, Optimizer

TRAIN_IMAGES, BATCH_SIZE, EPOCHS = 1_281_167, 4096, 300
STOCHASTIC_DEPTH = {"0": 0.2, "1": 0.3, "2": 0.5, "3": 0.7}


def get_config(model: str = "coatnet_0") -> Experiment:
  """The experiment of a model coatnet_0 to coatnet_3."""
  match = re.fullmatch(r"coatnet_([0-3])(?:_\w+)?", model)
  if not match:
    raise ValueError(f"the argument must be a model of coatnet_0 to coatnet_3, got {model!r}.")
  epoch = TRAIN_IMAGES // BATCH_SIZE
  return Experiment(
    num_steps=EPOCHS * TRAIN_IMAGES // BATCH_SIZE,
    batch_size=BATCH_SIZE,
    eval_batch_size=1024,
    log_every=50,
    eval_every=2 * epoch,
    data=Data("imagenet2012", image_size=224),
    model=Model(model, stochastic_depth=STOCHASTIC_DEPTH[match[1]]),
    augmentation=Augmentation(
      flip=True, mixup_alpha=0.8, resized_crop_area=0.08, randaugment_layers=2, randaugment_magnitude=15.0
    ),
    loss=Loss(label_smoothing=0.1),
    optimizer=Optimizer(
      peak_learning_rate=1e-3, end_learning_rate=1e-5, warmup_steps=10_000, weight_decay=0.05, clip_norm=1.0
    ),
    compute=Compute(dtype="bfloat16"),
    checkpoint=Checkpoint(every=epoch),
  )
