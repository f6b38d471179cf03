import flax.linen as nn
import jax
import numpy as np
import pytest

from convattn.analysis import convolution_kernels
from convattn.layers import DepthwiseConv
from convattn.models import CoAtNet, Run, Spec, Stage

STAGES = (Stage((Run("C", 2, 8),), 2), Stage((Run("X", 1, 8), Run("T", 1, 8)), 2))
SPEC = Spec(STAGES, (4, 4), stem_stride=1, head_size=4, conv_stride="pool")


@pytest.fixture(scope="module")
def model():
  images = np.random.default_rng(0).normal(size=(2, 11, 14, 3)).astype(np.float32)
  module = CoAtNet(SPEC, 3)
  return module, jax.jit(lambda x: module.init(jax.random.key(0), x, train=False))(images), images


def test_each_depthwise_kernel_is_found_with_the_grid_of_what_it_puts_out(model):
  found = convolution_kernels(*model)
  strides = [each.grid.stride for each in found]
  sizes = [(each.grid.height, each.grid.width) for each in found]
  assert sizes == [(6, 7), (6, 7), (3, 4)]
  assert strides == [(2.0, 2.0), (2.0, 2.0), (4.0, 4.0)]
  assert all(each.grid.image == (11, 14) for each in found)
  flat = jax.tree_util.tree_leaves_with_path(model[1]["params"])
  depthwise = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}
  for each in found:
    np.testing.assert_array_equal(each.kernel, depthwise[f"{each.layer}/kernel"][:, :, 0])
    np.testing.assert_allclose(each.taps, np.sqrt((each.kernel.astype(np.float64) ** 2).sum(-1)), rtol=1e-6)
  # No other convolution is depthwise: the stem's see every channel.
  assert len(found) == sum(leaf.ndim == 4 and leaf.shape[2] == 1 for leaf in depthwise.values())


def test_one_that_strides_puts_out_cells_of_its_own_stride():
  class Twice(nn.Module):
    @nn.compact
    def __call__(self, x):
      same = DepthwiseConv(kernel_size=5, name="same")
      return DepthwiseConv(stride=3, name="strided")(same(same(x)))

  images = np.zeros((1, 7, 9, 2), np.float32)
  variables = Twice().init(jax.random.key(0), images)
  same, strided = convolution_kernels(Twice(), variables, images)
  assert (same.layer, same.kernel.shape, same.stride, same.grid.stride) == ("same", (5, 5, 2), (1, 1), (1.0, 1.0))
  assert (strided.stride, strided.grid.stride) == ((3, 3), (3.0, 3.0))
  assert (strided.grid.height, strided.grid.width) == (3, 3)
