"""A picture becomes the model's pixels in the page as it does in Python."""

import numpy as np
import pytest

from convattn.pretrained.pictures import Preprocessing
from tests.viz.served import served

MADE = """async ([rgba, height, width, preprocessing]) => {
  const { modelBytes } = await import("./live_picture.js");
  return Array.from(modelBytes({ data: Uint8ClampedArray.from(rgba), height, width }, preprocessing));
}"""


@pytest.fixture(scope="module")
def made(browser):
  """(picture [h, w, 3], Preprocessing) -> bytes as the page makes them."""
  with served(browser) as tab:

    def make(picture, preprocessing):
      rgba = np.concatenate([picture, np.full_like(picture[..., :1], 255)], -1)
      found = tab.evaluate(MADE, [rgba.ravel().tolist(), *picture.shape[:2], preprocessing.as_json()])
      return np.reshape(found, (*preprocessing.image_size, len(preprocessing.mean)))

    yield make


def picture(height, width):
  """Noise on a slope, so that both the places and the filter matter."""
  draws = np.random.default_rng(0)
  slope = np.linspace(0, 160, height * width * 3).reshape(height, width, 3)
  return (slope + draws.integers(0, 96, (height, width, 3))).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize(
  "size, crop_mode, crop_fraction", [((8, 8), "squash", 1.0), ((9, 9), "center", 0.8), ((7, 12), "center", 0.9)]
)
def test_pixels_are_those_of_the_preprocessing(size, crop_mode, crop_fraction, interpolation, channels, made):
  preprocessing = Preprocessing(
    size, (0.5,) * channels, (0.5,) * channels, crop_fraction, crop_mode, interpolation=interpolation
  )
  for given in (picture(31, 46), picture(5, 4)):
    expected = preprocessing.pixels(given).astype(int)
    found = made(given, preprocessing)
    assert np.abs(found - expected).max() <= 1  # Pillow counts in whole numbers
    assert expected.std() > 10
