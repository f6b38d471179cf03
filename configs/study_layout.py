"""Which order of convolution and attention generalises, and which has capacity (Dai et al. 2021), on Fashion-MNIST.

Five layouts of about equal size on 28x28 pixels, stem at full size, grids of 14, 14, 7 and 4: layout_cccc_28 to
layout_cttt_28, and vit_rel_28 on patches of 4x4. Each learns from 1, 10 and 100 % of the training images, 55, 550 and
5,500 of each class; a seed draws its own 1 and 10 %, the same ones for every layout. No augmentation, as in the paper's
comparison; within a size of the data all have the same updates. The gap between train and test tells generalisation,
the accuracy on the training images capacity.

command: convattn prepare fashion_mnist, and then convattn study configs/study_layout.py:hour --workdir=runs/layout_hour
  or convattn study configs/study_layout.py --workdir=runs/layout
machine: one core of an AMD EPYC that other work had most of
time: 2 hours 2 minutes for `:hour`; the whole study was not run, and would take most of a day on two quiet cores
result: of `:hour` the paper's order of generalisation with 10 and 100 % of the data (88.1, 87.6, 86.3, 85.2 and 74.4 %
  of the test images with all of it), and no difference but the ViT's with 1 %; of capacity it says nothing, since no
  image is seen twice (docs/results.md)
"""

from convattn.study import Setting, Study, Tuning
from convattn.training.config import Checkpoint, Data, Experiment, Optimizer

LAYOUTS = ("layout_cccc_28", "layout_ccct_28", "layout_cctt_28", "layout_cttt_28", "vit_rel_28")
RANKS = ("rank 1 to 2", "rank 1 to 2", "rank 3", "rank 4", "rank 5, far behind")
"""Of generalisation, from the paper's plot; it prints no figures."""

IMAGES = {"1": 55, "10": 550, "100": 0}
"""Per cent of the training part -> images of each class; 0: all."""

STEPS = {"full": {"1": 2_000, "10": 5_000, "100": 15_000}, "hour": {"1": 220, "10": 350, "100": 600}}


def get_study(budget: str = "full") -> Study:
  """The study: "full", or "hour", with shorter runs, two seeds and nothing tuned."""
  if budget not in STEPS:
    raise ValueError(f"the budgets are 'full' and 'hour', got {budget!r}.")
  hour = budget == "hour"
  settings = [
    Setting(
      f"{layout.removeprefix('layout_').removesuffix('_28')}_{part}",
      {"model.name": layout, "data.images_per_class": IMAGES[part], "num_steps": steps},
      paper=rank if part == "100" else "",
      group=f"{part} % of the data",
    )
    for part, steps in STEPS[budget].items()
    for layout, rank in zip(LAYOUTS, RANKS, strict=True)
  ]
  return Study(
    title="Layouts of convolution and attention",
    question="Which layout generalises, and which has capacity, with how much data?",
    paper="generalisation C-C-C-C ≈ C-C-C-T ≥ C-C-T-T > C-T-T-T ≫ ViT_REL (ImageNet-1k, 300 epochs), capacity C-C-T-T "
    "≈ C-T-T-T > ViT_REL > C-C-C-T > C-C-C-C (JFT, 3 epochs), from plots; after JFT, at 224 px, C-C-T-T 82.39 and "
    "C-T-T-T 81.78 % (Dai et al. 2021, vertical layout design and Table 2)",
    base=Experiment(
      eval_batch_size=200,
      log_every=50,
      eval_every=1_000,
      data=Data("fashion_mnist"),
      optimizer=Optimizer(peak_learning_rate=1e-3, warmup_steps=50 if hour else 200, weight_decay=0.05),
      checkpoint=Checkpoint(every=100, keep_newest=1, keep_best=0),
    ),
    settings=settings,
    seeds=(0, 1) if hour else (0, 1, 2),
    baselines=[setting.name for setting in settings if setting.name.startswith("cctt")],
    tuning=None if hour else Tuning("optimizer.peak_learning_rate", (5e-4, 1e-3, 2e-3), num_steps=1_000),
    seeded=("seed", "data.subset_seed"),
    train_images=5_000 if hour else 10_000,
  )
