"""Reference cases: outputs of timm 1.0.31 in float64 for weights that are drawn from their names."""

import dataclasses
import functools
import json
import math
import pathlib
import zlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent / "parity"


@dataclasses.dataclass(frozen=True)
class Case:
  model: str  # timm's name
  state_dict: dict[str, np.ndarray]
  images: np.ndarray  # [2, size, size, 3] float32
  logits: np.ndarray  # [2, 1000] float64
  means: list[np.ndarray]  # of each feature map over space
  corners: list[np.ndarray]  # of each feature map at pixel (0, 0)
  feature_shapes: list[tuple[int, ...]]
  params: int


@functools.cache
def load_case(name: str) -> Case:
  facts = json.loads((FOLDER / f"{name}.json").read_text())
  arrays = np.load(FOLDER / f"{name}.npz")
  size = facts["image_size"]
  return Case(
    model=facts["model"],
    state_dict={key: draw(key, tuple(shape)) for key, shape in facts["state_dict"].items()},
    images=np.random.default_rng(0).standard_normal((2, size, size, 3)).astype("float32"),
    logits=arrays["logits"],
    means=[arrays[f"feature_{i}_mean"] for i in range(5)],
    corners=[arrays[f"feature_{i}_corner"] for i in range(5)],
    feature_shapes=[tuple(shape) for shape in facts["feature_shapes"]],
    params=facts["params"],
  )


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """The weight of that name: a function of the name alone, float32."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  x = rng.standard_normal(shape)
  if name.endswith("running_var"):
    x = 0.5 + rng.random(shape)
  elif name.endswith("running_mean"):
    x = 0.1 * x
  elif name.endswith("relative_position_bias_table"):
    x = 0.5 * x
  elif len(shape) == 1:
    x = 1 + 0.1 * x if name.endswith(("weight", "gamma")) else 0.1 * x
  else:
    x = x / math.sqrt(math.prod(shape[1:]))
  return x.astype(np.float32)
