import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from convattn.errors import UserError
from convattn.pretrained import Preprocessing, open_picture

HALF = (0.5, 0.5, 0.5)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
TWO_THIRDS = Preprocessing((4, 6), HALF, HALF, 2 / 3, "center")


def pattern(height=37, width=53, channels=3):
  row, column, channel = np.mgrid[:height, :width, :channels]
  values = (column**2 + 3 * row**2 * (channel + 1) + column * row) // (7 + channel)
  return (values % 256).astype(np.uint8)


# Of timm 1.0.31's evaluation transform (torchvision 0.29 on Pillow) for pattern(): every ninth green value, the sum of
# all, and the normalised pixel at (3, 5).
GOLDEN = [
  (
    ((24, 24), 0.95, "center", "bicubic"),
    ([[11, 67, 168], [164, 224, 111], [64, 184, 49]], 213812),
    [-1.0732940435409546, -0.9677870869636536, -0.7238343954086304],
  ),
  (
    ((20, 31), 0.9, "center", "bilinear"),
    ([[11, 53, 144, 30], [230, 41, 156, 66], [162, 64, 172, 136]], 229688),
    [-1.1246683597564697, -0.7226889729499817, -0.28810447454452515],
  ),
  (
    ((24, 24), 0.95, "squash", "bicubic"),
    ([[0, 49, 189], [138, 224, 135], [84, 143, 89]], 205263),
    [-1.5356624126434326, -1.3704479932785034, -1.1072766780853271],
  ),
  (
    ((16, 16), 1.0, "center", "nearest"),
    ([[9, 117], [103, 10]], 94520),
    [-0.28555530309677124, 0.030112052336335182, 0.3916340470314026],
  ),
]


@pytest.mark.parametrize("settings, pixels, normalized", GOLDEN)
def test_equals_torchvision_bit_for_bit(settings, pixels, normalized):
  size, *rest = settings
  ours = Preprocessing(
    size, **IMAGENET, **dict(zip(("crop_fraction", "crop_mode", "interpolation"), rest, strict=True))
  )
  made = ours.pixels(Image.fromarray(pattern()))
  assert made.shape == (*size, 3) and made.dtype == np.uint8
  assert (made[::9, ::9, 1].tolist(), int(made.sum(dtype=int))) == pixels
  out = ours(Image.fromarray(pattern()))
  assert out.dtype == np.float32 and out[3, 5].tolist() == normalized


def test_a_picture_of_the_right_size_is_left_alone():
  picture = pattern()
  for mode in ("center", "squash"):
    np.testing.assert_array_equal(Preprocessing((37, 53), HALF, HALF, crop_mode=mode).pixels(picture), picture)


def test_the_center_is_cut_out_of_the_whole_height():
  """A fraction of 2/3 of a picture with the size before the crop: what is left is its middle."""
  picture = pattern(6, 9)
  np.testing.assert_array_equal(TWO_THIRDS.pixels(picture), picture[1:5, 2:8])  # 1.5 is rounded to the even 2


def test_modes_differ_in_proportions_only():
  center, squash = (Preprocessing((12, 12), HALF, HALF, crop_mode=mode) for mode in ("center", "squash"))
  square, wide = pattern(24, 24), pattern(24, 48)
  np.testing.assert_array_equal(center.pixels(square), squash.pixels(square))
  middle = np.s_[:, 2:-2]  # at the cut, the filter reads over it or does not
  np.testing.assert_array_equal(center.pixels(wide)[middle], squash.pixels(wide[:, 12:36])[middle])
  assert (center.pixels(wide) != squash.pixels(wide)).mean() > 0.5


def test_a_fraction_rounds_down():
  """224 / 0.95 is 235.8: the shorter edge becomes 235, so that a picture of that height is not resized."""
  picture = pattern(235, 300)
  cut = Preprocessing((224, 224), HALF, HALF, 0.95, "center").pixels(picture)
  np.testing.assert_array_equal(cut, picture[6:230, 38:262])  # 5.5 to 6


def test_normalization_is_the_formula():
  preprocessing, pixels = Preprocessing((3, 5), (0.1, 0.5, 0.7), (0.3, 0.2, 0.9)), pattern(3, 5)
  out = preprocessing.normalize(pixels[None])
  assert out.dtype == np.float32
  np.testing.assert_allclose(out[0], (pixels / 255 - [0.1, 0.5, 0.7]) / [0.3, 0.2, 0.9], atol=1e-6)
  np.testing.assert_array_equal(out[0], preprocessing(pixels))
  for wrong in (pixels.astype(np.float32), pixels[..., :1], np.uint8(3)):
    with pytest.raises(ValueError, match="pixels are .* but must be uint8 with a last axis of 3"):
      preprocessing.normalize(wrong)


def test_grey_and_colour_become_each_other():
  grey, colour = Preprocessing((5, 7), (0.5,), (0.25,)), Preprocessing((5, 7), HALF, HALF)
  plane, picture = pattern(9, 11, 1), pattern(9, 11)
  spread = colour.pixels(plane)
  np.testing.assert_array_equal(spread, np.repeat(grey.pixels(plane), 3, axis=-1))
  np.testing.assert_array_equal(grey.pixels(plane), grey.pixels(plane[..., 0]))
  luminance = Preprocessing((9, 11), (0.5,), (0.25,)).pixels(picture)
  np.testing.assert_allclose(luminance[..., 0], picture @ [0.299, 0.587, 0.114], atol=1)


def test_arrays_of_other_channels_are_resized_plane_by_plane():
  picture = pattern(9, 11, 5)
  five, one = (Preprocessing((5, 7), (0.5,) * n, (0.5,) * n, 0.8, "center") for n in (5, 1))
  expected = np.concatenate([one.pixels(picture[..., i]) for i in range(5)], axis=-1)
  np.testing.assert_array_equal(five.pixels(picture), expected)
  with pytest.raises(ValueError, match="a picture has 1 or 3 channels, but mean has 5"):
    five.pixels(Image.fromarray(pattern()))


def test_every_mode_of_a_picture_is_read():
  plain = Preprocessing((9, 11), HALF, HALF)
  colour, grey = Image.fromarray(pattern(9, 11)), Image.fromarray(pattern(9, 11, 1)[..., 0])
  expected, expected_grey = np.asarray(colour), np.asarray(grey)[..., None].repeat(3, -1)
  with_alpha = Image.fromarray(np.dstack([pattern(9, 11), np.zeros((9, 11), np.uint8)]))
  np.testing.assert_array_equal(plain.pixels(with_alpha), expected)
  deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
  assert deep.mode == "I;16"
  np.testing.assert_array_equal(plain.pixels(deep), expected_grey)
  palette = grey.convert("P")
  palette.info["transparency"] = bytes(range(256))  # Pillow warns where this is converted straight
  np.testing.assert_array_equal(plain.pixels(palette), expected_grey)
  assert plain.pixels(grey.convert("1")).max() == 255
  assert plain.pixels(colour.convert("CMYK")).shape == (9, 11, 3)
  with pytest.raises(ValueError, match="mode 'F'.*no known range"):
    plain.pixels(grey.convert("F"))


@pytest.mark.parametrize(
  "array",
  [
    pattern().astype(np.float32),
    pattern()[None],
    pattern()[0, 0],
    pattern(0, 4),
    pattern(channels=4),
    pattern(channels=2),
  ],
  ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_other_arrays_are_no_pictures(array):
  with pytest.raises(ValueError, match="a picture (is|has)"):
    Preprocessing((5, 7), HALF, HALF).pixels(array)


def test_json_and_back():
  settings = Preprocessing((384, 320), **IMAGENET, crop_fraction=0.875, crop_mode="center", interpolation="bilinear")
  again = Preprocessing.from_json(json.loads(json.dumps(settings.as_json())))
  assert again == settings and hash(again) == hash(settings)
  assert Preprocessing.from_json({"image_size": [8, 8], "mean": [0.3], "std": [0.2]}) == Preprocessing(
    (8, 8), (0.3,), (0.2,), 1.0, "squash", "bicubic"
  )
  with pytest.raises(ValueError, match="preprocessing has no field 'zoom'"):
    Preprocessing.from_json({**settings.as_json(), "zoom": 2})
  with pytest.raises(ValueError, match="preprocessing lacks field 'std'"):
    Preprocessing.from_json({"image_size": [8, 8], "mean": [0.3]})


@pytest.mark.parametrize(
  "field, value",
  [
    ("image_size", (224,)),
    ("image_size", (0, 8)),
    ("mean", ()),
    ("mean", (0.5,)),
    ("std", (0.5, 0.0, 0.5)),
    ("crop_fraction", 0.0),
    ("crop_fraction", 1.01),
    ("crop_mode", "border"),
    ("interpolation", "lanczos"),
  ],
)
def test_settings_out_of_range_are_refused(field, value):
  settings = {"image_size": (8, 8), "mean": HALF, "std": HALF, field: value}
  with pytest.raises(ValueError, match=f"{field} is .*but "):
    Preprocessing(**settings)


def encoded(format_name):
  file = io.BytesIO()
  Image.fromarray(pattern()).save(file, format_name)
  return file.getvalue()


def test_a_file_is_read_whole(tmp_path):
  path = tmp_path / "a picture.png"
  path.write_bytes(encoded("PNG"))
  picture = open_picture(path)
  path.unlink()
  np.testing.assert_array_equal(np.asarray(picture), pattern())


@pytest.mark.parametrize(
  "content, problem",
  [
    (None, "is not there"),
    (b"", "no picture"),
    (b"<html>not found</html>", "no picture"),
    (encoded("PNG")[:-400], "damaged"),
    (encoded("JPEG")[:-400], "damaged"),
    (encoded("PNG")[:200] + b"x" * 50 + encoded("PNG")[250:], "damaged"),
  ],
)
def test_a_bad_file_is_one_line_with_its_path(tmp_path, content, problem):
  path = tmp_path / "some.jpg"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(ValueError, match=problem) as refused:
    open_picture(path)
  assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_a_folder_and_a_picture_beyond_all_bounds_are_refused(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match="is a folder"):
    open_picture(tmp_path)
  path = tmp_path / "large.png"
  path.write_bytes(encoded("PNG"))
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
  with pytest.raises(ValueError, match="damaged or too large picture.*1961 pixels"):
    open_picture(path)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_damage_escapes(tmp_path, format_name):
  good, rng = encoded(format_name), np.random.default_rng(0)
  path = tmp_path / "some.image"
  refusals = []
  for _ in range(40):
    bad = bytearray(good[: rng.integers(len(good))] if rng.random() < 0.5 else good)
    for place in rng.integers(max(len(bad), 1), size=8 if bad else 0):
      bad[place] = rng.integers(256)
    path.write_bytes(bad)
    try:
      open_picture(path)
    except ValueError as error:
      refusals.append(str(error))
  assert refusals and not any("\n" in text for text in refusals)


def test_the_room_does_without_pillow_until_there_is_a_picture():
  code = "import sys, convattn.pretrained; print(sorted({'PIL', 'huggingface_hub', 'matplotlib'} & set(sys.modules)))"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout == "[]\n"


def test_a_picture_that_would_fill_the_memory_is_refused():
  thin = np.zeros((1, 60_000, 3), np.uint8)
  with pytest.raises(ValueError, match="a picture of 1 x 60000 would be resized to .* cut it to a less extreme shape"):
    Preprocessing((224, 224), (0.5,) * 3, (0.5,) * 3, 0.95, "center").pixels(thin)


def test_fields_of_other_forms_are_taken_or_named():
  mean = (0.5, 0.5, 0.5)
  assert Preprocessing(48, mean, mean) == Preprocessing((48, 48), mean, mean)
  assert Preprocessing(np.int64(48), np.float32(mean), list(mean)).image_size == (48, 48)
  for name, wrong in {
    "image_size": ["48", 48.5, (48, "a"), None, (48,)],
    "mean": [0.5, "abc", ("a", "b", "c"), (None,) * 3, (float("nan"), 0.5, 0.5), (10**400,) * 3],
    "std": [1, ("1", "1", "1")],
    "crop_fraction": ["0.9", None, float("nan")],
    "crop_mode": [("center",), 3],
    "interpolation": [None],
  }.items():
    for value in wrong:
      with pytest.raises(UserError, match=rf"^{name} is .*, but must be") as raised:
        Preprocessing(**{"image_size": (48, 48), "mean": mean, "std": mean, name: value})
      assert "\n" not in str(raised.value)


def test_a_preprocessing_for_other_channels_has_the_mean_of_all():
  colours = Preprocessing(8, (0.2, 0.4, 0.9), (0.1, 0.2, 0.3))
  grey = colours.with_channels(1)
  np.testing.assert_allclose([grey.mean[0], grey.std[0]], [0.5, 0.2])
  assert colours.with_channels(3) is colours
