"""A small model of each of timm's architectures: all fields but the sizes, few and narrow blocks, drawn weights."""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from plain_coatnet import FACTS
from reference_cases import draw

from convattn.models import CoAtNet, spec_for
from convattn.models.spec import Spec, stages
from convattn.pretrained.timm_tensors import Tensor, tensors

# Odd and unequal all the way down: attention sees 3x5 pixels.
IMAGES = (3, 19, 35, 3)
NUM_CLASSES = 5
# A stage of convolution and one of attention, each with a block that strides and widens and one that does not.
LAYOUTS = {"coatnet_nano_cc_224": ("C", "CT"), "coatnext_nano_rw_224": "XT"}


@dataclasses.dataclass(frozen=True, eq=False)
class Shrunken:
  """A model of ours in float64 and what the reference needs to compute the same."""

  spec: Spec
  facts: dict
  rows: list[Tensor]
  shapes: dict[tuple[str, ...], tuple[int, ...]]  # of our variables
  state_dict: dict[str, np.ndarray]  # timm's tensors, float64
  images: np.ndarray
  labels: np.ndarray

  def model(self, dtype: str) -> CoAtNet:
    return CoAtNet(self.spec, NUM_CLASSES, dtype, dtype)

  def ours(self, tensors: Mapping[str, np.ndarray]) -> dict:
    """Our trees from arrays of timm's shapes: weights, or gradients, which turn and change sign as weights do."""
    flat = {}
    for row in self.rows:
      if row.name in tensors:
        arrays = row.load(np.asarray(tensors[row.name]), *(self.shapes[path] for path in row.paths))
        flat.update(zip(row.paths, arrays, strict=True))
    return unflatten_dict(flat)

  def timms(self, tree: Mapping) -> dict[str, np.ndarray]:
    """The inverse, for those tensors of which the tree has all arrays."""
    flat = flatten_dict(tree)
    return {row.name: row.save(*(np.asarray(flat[p]) for p in row.paths)) for row in self.rows if row.paths[0] in flat}


@functools.cache
def shrunken(name: str) -> Shrunken:
  layout = stages(LAYOUTS.get(name, "CT"), (2, 2), (64, 96))
  spec = dataclasses.replace(spec_for(name), stages=layout, stem_widths=(16, 32), relative_dropout=0.0)
  rng = np.random.default_rng(0)
  images = rng.standard_normal(IMAGES).astype(np.float32)
  model = CoAtNet(spec, NUM_CLASSES)
  initial = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
  shapes = {path: array.shape for path, array in flatten_dict(initial).items()}
  rows = list(tensors(spec))
  state_dict = {}
  for row in rows:
    shape = row.save(*(np.zeros(shapes[path]) for path in row.paths)).shape
    state_dict[row.name] = draw(row.name, shape).astype(np.float64)
  return Shrunken(spec, FACTS[name], rows, shapes, state_dict, images, rng.integers(NUM_CLASSES, size=IMAGES[0]))
