"""The data set that an experiment names."""

from convattn import data
from convattn.pretrained import Preprocessing
from convattn.training.config import Experiment


def load_dataset(experiment: Experiment, preprocessing: Preprocessing | None = None) -> data.Dataset:
  """`data.load` with the settings of `experiment.data`; `preprocessing` is of a model that was trained before.

  Raises:
    ValueError: as `data.load`; one line.
  """
  settings = experiment.data
  return data.load(
    settings.name,
    settings.dir,
    classes=settings.classes,
    images_per_class=settings.images_per_class,
    subset_seed=settings.subset_seed,
    image_size=settings.image_size,
    broken=settings.broken,
    preprocessing=preprocessing,
  )
