"""CoAtNet-2 to -4 on ImageNet-21k at 224 pixels from drawn weights, as the paper does it (Dai et al. 2021, Table 10).

It has not been run: there were neither the pictures nor a machine for it. The tests run it at a reduced size, from
encoded pictures to a finished step, and lower both of its steps at full size for CPU, CUDA and TPU. The argument behind
the file's name is the model, coatnet_2 to coatnet_4, in any of its forms.

From the table, its column for training on ImageNet-21k: 90 epochs, batches of 4096, AdamW, learning rate 1e-3 after 5
epochs of warm-up, falling along a line to 1e-5, weight decay 0.01, gradients clipped to norm 1, the sigmoid loss with
label smoothing 1e-4, no mixup, stochastic depth 0.3, 0.5 and 0.7 for coatnet_2 to _4, and for coatnet_4 RandAugment of
2 layers and magnitude 5 (the paper's PT-RA). An epoch is 12.7 million pictures, one of the numbers that
the paper has; releases differ, and the pictures are yours to bring: a folder per class in data.dir. Flips and random
crops are not in the table; they are ImageNet's usual ones. bfloat16 is our choice.

command: python train.py --config=configs/imagenet21k.py:coatnet_2 --config.data.dir=DIR --config.data.workers=16
  --workdir=runs/coatnet_2_21k, with DIR/train/n00004475/*.JPEG and so on, and DIR/validation
machine: not run; meant for several GPUs or TPU cores. For coatnet_4: --config.compute.fsdp=N; docs/scaling.md counts
memory, counted from shapes, of one batch over all devices:
  coatnet_2: state 1.074 GiB, kept for the backward pass 1,526.76 GiB;
  coatnet_3: state 2.224 GiB, kept for the backward pass 2,289.56 GiB;
  coatnet_4: state 3.436 GiB, kept for the backward pass 3,789.16 GiB
time: not run; 279,052 updates
result: not run; the paper reports 87.1 % (CoAtNet-2, 384 px) to 88.4 % (CoAtNet-4, 512 px) on ImageNet-1k after
  fine-tuning
"""

import re

from convattn.training.config import Augmentation, Checkpoint, Compute, Data, Experiment, Loss, Model, Optimizer

TRAIN_IMAGES, BATCH_SIZE, EPOCHS = 12_700_000, 4096, 90
STOCHASTIC_DEPTH = {"2": 0.3, "3": 0.5, "4": 0.7}


def get_config(model: str = "coatnet_2") -> Experiment:
  """The experiment of a model coatnet_2 to coatnet_4."""
  match = re.fullmatch(r"coatnet_([2-4])(?:_\w+)?", model)
  if not match:
    raise ValueError(f"the argument must be a model of coatnet_2 to coatnet_4, got {model!r}.")
  epoch = TRAIN_IMAGES // BATCH_SIZE
  return Experiment(
    num_steps=EPOCHS * TRAIN_IMAGES // BATCH_SIZE,
    batch_size=BATCH_SIZE,
    eval_batch_size=1024,
    log_every=100,
    eval_every=epoch,
    data=Data("folder", image_size=224),
    model=Model(model, stochastic_depth=STOCHASTIC_DEPTH[match[1]]),
    augmentation=Augmentation(
      flip=True, resized_crop_area=0.08, randaugment_layers=2 if match[1] == "4" else 0, randaugment_magnitude=5.0
    ),
    loss=Loss(kind="sigmoid", label_smoothing=1e-4),
    optimizer=Optimizer(
      peak_learning_rate=1e-3,
      end_learning_rate=1e-5,
      warmup_steps=5 * epoch,
      schedule="linear",
      weight_decay=0.01,
      clip_norm=1.0,
    ),
    compute=Compute(dtype="bfloat16"),
    checkpoint=Checkpoint(every=epoch // 10),
  )
