"""Fine-tuning on ImageNet-1k at 384 or 512 pixels, as CoAtNet's paper does it (Dai et al. 2021, Table 10).

It has not been run: there were neither the pictures nor a machine for it. The tests lower both of its steps for CPU,
CUDA and TPU. The argument behind the file's name is MODEL@SIZE; the weights are timm's for 224 pixels where there are
some (of its coatnet_0 and _1 trained on ImageNet-1k, of _2 and _3 on ImageNet-12k), else a run of ours in runs/MODEL,
or what --config.init_from names. data.dir holds train/n01440764/*.JPEG and so on, and validation/ likewise.

From the table, its columns for ImageNet-1k: 30 epochs, batches of 512, a constant learning rate of 5e-5, weight decay
1e-8, gradients clipped to norm 1, averages of decay 0.9999, label smoothing 0.1, mixup 0.8, RandAugment of 2 layers and
magnitude 15 (coatnet_3: 20), stochastic depth 0.2, 0.3, 0.5 and 0.7 for coatnet_0 to _3. Flips and random crops are
not in the table; they are ImageNet's usual ones. bfloat16 is our choice.

command: python train.py --config=configs/imagenet_finetune.py:coatnet_0_rw_224@384 --config.data.dir=DIR
  --workdir=runs/coatnet_0_384
machine: not run; meant for several GPUs or TPU cores, over which each batch is split
memory, counted from shapes, of one batch over all devices:
  coatnet_0_rw_224: state 0.411 GiB, kept for the backward pass 335.52 GiB
time: not run; 75,068 updates
result: not run; the paper reports 81.6 % at 224 and 83.9 % at 384 pixels of its own CoAtNet-0, and timm 82.4 % at 224
  of the weights of coatnet_0_rw_224
"""

import re

from convattn.training.config import Augmentation, Checkpoint, Compute, Data, Experiment, Loss, Model, Optimizer

TRAIN_IMAGES, BATCH_SIZE, EPOCHS = 1_281_167, 512, 30
STOCHASTIC_DEPTH = {"0": 0.2, "1": 0.3, "2": 0.5, "3": 0.7}
WEIGHTS = {
  "coatnet_0_rw_224": "coatnet_0_rw_224.sw_in1k",
  "coatnet_1_rw_224": "coatnet_1_rw_224.sw_in1k",
  "coatnet_2_rw_224": "coatnet_2_rw_224.sw_in12k",
  "coatnet_3_rw_224": "coatnet_3_rw_224.sw_in12k",
}


def get_config(model_and_size: str = "coatnet_0_rw_224@384") -> Experiment:
  """The experiment of a model coatnet_0 to coatnet_3, in any of its forms, and an image size: "coatnet_2@512"."""
  match = re.fullmatch(r"(coatnet_([0-3])(?:_\w+)?)@(.*)", model_and_size)
  if not match:
    raise ValueError(f"the argument must be MODEL@SIZE with a model of coatnet_0 to coatnet_3, got {model_and_size!r}.")
  name, number, size = match.groups()
  if not re.fullmatch(r"[1-9][0-9]*", size):
    raise ValueError(f"the size behind @ must be a number of pixels such as 384, got {size!r} in {model_and_size!r}.")
  epoch = TRAIN_IMAGES // BATCH_SIZE
  return Experiment(
    num_steps=EPOCHS * TRAIN_IMAGES // BATCH_SIZE,
    batch_size=BATCH_SIZE,
    eval_batch_size=BATCH_SIZE,
    log_every=100,
    eval_every=epoch,
    ema_decay=0.9999,
    init_from=WEIGHTS.get(name, f"runs/{name}"),
    data=Data("folder", image_size=int(size)),
    model=Model(name, stochastic_depth=STOCHASTIC_DEPTH[number]),
    augmentation=Augmentation(
      flip=True,
      mixup_alpha=0.8,
      resized_crop_area=0.08,
      randaugment_layers=2,
      randaugment_magnitude=20.0 if number == "3" else 15.0,
    ),
    loss=Loss(label_smoothing=0.1),
    optimizer=Optimizer(peak_learning_rate=5e-5, schedule="constant", weight_decay=1e-8, clip_norm=1.0),
    compute=Compute(dtype="bfloat16"),
    checkpoint=Checkpoint(every=epoch),
  )
