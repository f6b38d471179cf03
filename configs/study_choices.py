"""What single choices within a CoAtNet are worth (Dai et al. 2021, Tables 6, 8 and 9), on Fashion-MNIST.

layout_cctt_28 as the paper has its models, and with one choice changed: the relative bias after the softmax or none;
heads twice as wide; LayerNorm for BatchNorm in stem and convolution blocks; the stride in the depthwise convolution
instead of the expansion. Each on 10 and 100 % of the training images; a seed draws its own 10 %, the same ones for all.

command: convattn prepare fashion_mnist, and then convattn study configs/study_choices.py:hour
  --workdir=runs/choices_hour or convattn study configs/study_choices.py --workdir=runs/choices
machine: 2 CPU cores
time: not run. The model trains 223 images/s on one core of a shared machine, so `:hour` is meant to take an hour on two
  quiet ones, and the whole study most of a day
result: not run
"""

from convattn.study import Setting, Study, Tuning
from convattn.training.config import Checkpoint, Data, Experiment, Model, Optimizer

CHOICES = {
  "as_paper": ({}, "84.1"),
  "bias_post": ({"model.relative_attention": "post"}, ""),
  "bias_none": ({"model.relative_attention": "none"}, "83.8 (Table 6)"),
  "heads_of_32": ({"model.head_size": 32}, "83.9 (Table 8)"),
  "layer_norm": ({"model.conv_norm": "layer"}, "84.1 (Table 8)"),
  "stride_depthwise": ({"model.conv_stride": "depthwise"}, "84.1 (Table 9)"),
}
"""Name -> (changes, the paper's figure for CoAtNet-2 on ImageNet-1k at 224 px)."""

IMAGES = {"10": 550, "100": 0}
"""Per cent of the training part -> images of each class; 0: all."""

STEPS = {"full": {"10": 5_000, "100": 15_000}, "hour": {"10": 400, "100": 700}}


def get_study(budget: str = "full") -> Study:
  """The study: "full", or "hour", with shorter runs, two seeds and nothing tuned."""
  if budget not in STEPS:
    raise ValueError(f"the budgets are 'full' and 'hour', got {budget!r}.")
  hour = budget == "hour"
  return Study(
    title="Single choices within a CoAtNet",
    question="Does relative attention help, and what are head size, norm and the place of the stride worth?",
    paper="CoAtNet-2 on ImageNet-1k at 224 px: 84.1 % as it is, 83.8 without relative attention, 83.9 with heads of 64 "
    "instead of 32, 84.1 with LayerNorm in MBConv, 84.1 with the stride in the depthwise convolution (CoAtNet-0: 82.0 "
    "instead of 81.6); a bias after the softmax is not reported (Dai et al. 2021, Tables 6, 8 and 9)",
    base=Experiment(
      eval_batch_size=200,
      log_every=50,
      eval_every=1_000,
      data=Data("fashion_mnist"),
      model=Model("layout_cctt_28"),
      optimizer=Optimizer(peak_learning_rate=1e-3, warmup_steps=50 if hour else 200, weight_decay=0.05),
      checkpoint=Checkpoint(every=100, keep_newest=1, keep_best=0),
    ),
    settings=[
      Setting(
        f"{name}_{part}",
        {**changes, "data.images_per_class": IMAGES[part], "num_steps": steps},
        paper=figure if part == "100" else "",
        group=f"{part} % of the data",
      )
      for part, steps in STEPS[budget].items()
      for name, (changes, figure) in CHOICES.items()
    ],
    seeds=(0, 1) if hour else (0, 1, 2),
    baselines=[f"as_paper_{part}" for part in IMAGES],
    tuning=None if hour else Tuning("optimizer.peak_learning_rate", (5e-4, 1e-3, 2e-3), num_steps=1_000),
    seeded=("seed", "data.subset_seed"),
    train_images=5_000 if hour else 10_000,
  )
