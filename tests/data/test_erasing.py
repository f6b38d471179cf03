"""Random erasing: what becomes noise is one rectangle of an image, of the paper's areas and sides, anywhere in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.data import random_erasing

H, W, COUNT = 21, 14, 3000
LEVEL = 77


@pytest.fixture(scope="module")
def erased():
  """Equal images, of each of which a part was erased; three channels of noise are all LEVEL once in 16 million."""
  return np.asarray(random_erasing(jax.random.key(0), jnp.full((COUNT, H, W, 3), LEVEL, jnp.uint8), 1.0))


@pytest.fixture(scope="module")
def boxes(erased):
  """[n, 2, 2]: the first row and column that changed, and the numbers of rows and columns."""
  changed = (erased != LEVEL).any(-1)
  rows, columns = changed.any(2), changed.any(1)
  np.testing.assert_array_equal(changed, rows[:, :, None] & columns[:, None])  # a product of rows and columns
  first, length = (np.stack([f(rows), f(columns)], 1) for f in (lambda on: on.argmax(1), lambda on: on.sum(1)))
  last = np.stack([on.shape[1] - on[:, ::-1].argmax(1) for on in (rows, columns)], 1)
  np.testing.assert_array_equal(last - first, length)  # without gaps
  return np.stack([first, length], 1)


def test_rectangles_have_the_papers_areas_and_sides(boxes):
  height, width = boxes[:, 1].T
  whole = (height < H) & (width < W)  # no side was cut to the image's
  area, aspect = (height * width)[whole], (height / width)[whole]
  # Each side is off by at most a half.
  assert ((height + 0.5) * (width + 0.5))[whole].min() >= 0.02 * H * W
  assert ((height - 0.5) * (width - 0.5))[whole].max() <= 0.4 * H * W
  assert ((height + 0.5) / (width - 0.5))[whole].min() >= 0.3 and ((height - 0.5) / (width + 0.5))[
    whole
  ].max() <= 1 / 0.3
  assert area.min() < 0.03 * H * W and area.max() > 0.38 * H * W
  assert aspect.min() < 0.4 and aspect.max() > 3
  # The areas are uniform: their mean over all but cut ones, from the same draws by hand.
  draws = np.random.default_rng(0)
  share, ratio = draws.uniform(0.02, 0.4, 10**5), draws.uniform(0.3, 1 / 0.3, 10**5)
  by_hand = (
    np.minimum(np.round(np.sqrt(share * ratio * H * W)), H),
    np.minimum(np.round(np.sqrt(share / ratio * H * W)), W),
  )
  for ours, theirs in zip((height, width), by_hand, strict=True):
    assert abs(ours.mean() - theirs.mean()) < 6 * theirs.std() * COUNT**-0.5


def test_they_lie_anywhere_inside(boxes):
  first, length = boxes[:, 0], boxes[:, 1]
  assert first.min() == 0 and (first + length).max(0).tolist() == [H, W]
  room = np.array([H, W]) - length
  share = (first / np.maximum(room, 1))[(room > 5).all(1)]
  np.testing.assert_allclose(share.mean(0), 0.5, atol=6 * 0.3 * len(share) ** -0.5)


def test_the_noise_is_uniform(erased):
  noise = erased[(erased != LEVEL).any(-1)]
  counts = np.bincount(noise.ravel(), minlength=256)
  expected = noise.size / 256
  assert np.abs(counts - expected).max() < 6 * expected**0.5


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_some_images_stay(probability):
  images = jax.random.randint(jax.random.key(1), (2000, 6, 5, 1), 0, 256).astype(jnp.uint8)
  erased = random_erasing(jax.random.key(2), images, probability)
  changed = float((erased != images).any((1, 2, 3)).mean())
  # One pixel of noise may be the image's own.
  assert abs(changed - probability) < 6 * (0.21 / 2000) ** 0.5 + probability / 256
  assert (erased is images) == (probability == 0)
