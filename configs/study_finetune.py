"""What trained weights are worth where there is little data: fine-tuning against drawn weights, on Fashion-MNIST.

layout_cctt_28 learns the classes 0 to 4 of Fashion-MNIST; from these weights, or from drawn ones, it then learns the
classes 5 to 9 from 1, 10 and 100 % of their training images, 55, 550 and 5,500 of each class, with the same updates on
both sides. Two halves of one data set, and not the embedded digits: those have 360 images to test on, of which one is
0.28 points, and here each half has 5,000. A seed trains its own first weights and draws its own images, the same ones
on both sides.

command: convattn prepare fashion_mnist, and then convattn study configs/study_finetune.py:hour
  --workdir=runs/transfer_hour or convattn study configs/study_finetune.py --workdir=runs/transfer
machine: 2 CPU cores
time: not run. The model trains 223 images/s on one core of a shared machine, so `:hour` is meant to take less than an
  hour on two quiet ones, and the whole study half a day
result: not run
"""

from convattn.study import Setting, Study, Tuning
from convattn.training.config import Checkpoint, Data, Experiment, Model, Optimizer

IMAGES = {"1": 55, "10": 550, "100": 0}
"""Per cent of the training part -> images of each class; 0: all."""

FIGURES = {"trained": "87.1 (384 px)", "drawn": "85.7 (384 px)"}

STEPS = {
  "full": {"first": 10_000, "1": 1_000, "10": 3_000, "100": 8_000},
  "hour": {"first": 1_000, "1": 200, "10": 400, "100": 700},
}


def get_study(budget: str = "full") -> Study:
  """The study: "full", or "hour", with shorter runs, two seeds and nothing tuned."""
  if budget not in STEPS:
    raise ValueError(f"the budgets are 'full' and 'hour', got {budget!r}.")
  hour, steps = budget == "hour", STEPS[budget]
  second = [
    Setting(
      f"{weights}_{part}",
      {"data.classes": "5-9", "data.images_per_class": images, "num_steps": steps[part]},
      paper=figure if part == "100" else "",
      starts_from="first" if weights == "trained" else "",
      group=f"{part} % of classes 5-9",
    )
    for part, images in IMAGES.items()
    for weights, figure in FIGURES.items()
  ]
  return Study(
    title="Trained weights against drawn ones",
    question="How much do weights from other classes help, with how much data?",
    paper="CoAtNet-2 at 384 px reaches 87.1 % on ImageNet-1k after ImageNet-21k, 85.7 % without (Dai et al. 2021, "
    "Table 4); fewer images are not reported",
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
      Setting("first", {"data.classes": "0-4", "num_steps": steps["first"]}, group="classes 0-4", tuned=False),
      *second,
    ],
    seeds=(0, 1) if hour else (0, 1, 2),
    baselines=["first", *(f"drawn_{part}" for part in IMAGES)],
    tuning=None if hour else Tuning("optimizer.peak_learning_rate", (2.5e-4, 5e-4, 1e-3, 2e-3), num_steps=800),
    seeded=("seed", "data.subset_seed"),
    train_images=5_000 if hour else 10_000,
  )
