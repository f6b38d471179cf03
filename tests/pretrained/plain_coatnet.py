"""timm's CoAtNets from their mathematics, as a reference: a pure function of timm's tensors by timm's names.

Nothing of ours is in it, and no layer library. Images and features are [b, h, w, c], kernels [out, in, row, column] as
timm keeps them. Strides give ceil(n / 2) pixels, and means count true pixels only, so that odd sizes work; at the sizes
that timm takes, multiples of 32, this is what it does.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

HEAD_SIZE = 32
ACTIVATIONS: dict[str, Callable] = {
  "gelu": lambda x: x * (1 + jax.scipy.special.erf(x / np.sqrt(2))) / 2,
  "silu": lambda x: x * jax.nn.sigmoid(x),
  "relu": lambda x: jnp.maximum(x, 0),
}

# What names and shapes of the tensors do not tell. stride: of a convolution block, in its "first" 1x1 convolution, its
# depthwise one, or a mean in front ("pool").
DEFAULT = {"conv": "silu", "pre_norm": False, "squeeze": "silu", "stride": "depthwise", "pool": "avg"}
_PAPER_LIKE = {"conv": "gelu"}
_POOL = {"stride": "pool"}
_SILU = {"pre_norm": True}
_RELU = {"pre_norm": True, "squeeze": "relu"}
FACTS: dict[str, dict[str, Any]] = {
  "coatnet_pico_rw_224": {},
  "coatnet_nano_rw_224": _POOL,
  "coatnet_0_rw_224": _RELU | _POOL,
  "coatnet_1_rw_224": _RELU,
  "coatnet_2_rw_224": _SILU,
  "coatnet_3_rw_224": _SILU,
  "coatnet_bn_0_rw_224": _RELU,
  "coatnet_rmlp_nano_rw_224": {},
  "coatnet_rmlp_0_rw_224": _RELU,
  "coatnet_rmlp_1_rw_224": _RELU | _POOL | {"pool": "max3x3"},
  "coatnet_rmlp_1_rw2_224": _RELU,
  "coatnet_rmlp_2_rw_224": _SILU,
  "coatnet_rmlp_2_rw_384": _SILU,
  "coatnet_rmlp_3_rw_224": _SILU,
  "coatnet_nano_cc_224": _RELU | _POOL,
  "coatnext_nano_rw_224": {"conv": "gelu"},
  **{f"coatnet_{i}_224": _PAPER_LIKE for i in range(6)},
  "coatnet_0_224_paper": _PAPER_LIKE | {"stride": "first", "pool": "max"},
  "test_coatnet": _POOL,
}


def of_the_batch(x, running_mean, running_variance):
  """What BatchNorm subtracts and divides by in training; the variance is the mean squared deviation."""
  del running_mean, running_variance
  mean = x.mean((0, 1, 2))
  return mean, ((x - _along(mean, x)) ** 2).mean((0, 1, 2))


def running(x, running_mean, running_variance):
  """The same in evaluation."""
  del x
  return running_mean, running_variance


@dataclasses.dataclass(frozen=True)
class Part:
  """The tensors whose names begin with `name`, and what all parts share."""

  tensors: Mapping[str, jax.Array]
  facts: Mapping[str, Any]
  statistics: Callable
  seen: dict[str, tuple[jax.Array, jax.Array]]  # BatchNorm's mean and variance, by the name of the norm
  name: str = ""

  def __truediv__(self, name):
    return dataclasses.replace(self, name=f"{self.name}{name}.")

  def __getitem__(self, leaf):
    return self.tensors[self.name + leaf]

  def __contains__(self, leaf):
    return any(name == self.name + leaf or name.startswith(f"{self.name}{leaf}.") for name in self.tensors)


def forward(state_dict: Mapping, images: jax.Array, *, facts: Mapping, statistics: Callable = running):
  """(logits, features after the stem and each stage, {norm: (mean, variance)} of every BatchNorm)."""
  model = Part(state_dict, DEFAULT | dict(facts), statistics, {})
  stem, head = model / "stem", model / "head"
  activation = ACTIVATIONS[model.facts["conv"]]
  x = convolution(stem / "conv1", images, stride=2)
  features = [convolution(stem / "conv2", activation(norm(stem / "norm1", x)))]
  for i in itertools.takewhile(lambda i: f"stages.{i}" in model, itertools.count()):
    x, j = features[-1], 0
    while f"stages.{i}.blocks.{j}" in model:
      part = model / f"stages.{i}.blocks.{j}"
      kind = transformer if "attn" in part else convnext if "conv_dw" in part else mbconv
      x, j = kind(part, x, strided=j == 0), j + 1
    features.append(x)
  if "norm" in model:
    x = norm(model / "norm", x, 1e-6).mean((1, 2))
  else:
    x = norm(head / "norm", x.mean((1, 2)), 1e-6)
    x = jnp.tanh(linear(head / "pre_logits.fc", x))
  return linear(head / "fc", x), features, model.seen


def mbconv(part: Part, x, *, strided: bool):
  activation, stride = ACTIVATIONS[part.facts["conv"]], part.facts["stride"] if strided else None
  y = norm(part / "pre_norm", x)
  y = activation(y) if part.facts["pre_norm"] else y
  y = pool(y, "avg") if stride == "pool" else y
  y = y[:, ::2, ::2] if stride == "first" else y
  y = activation(norm(part / "norm1", linear(part / "conv1_1x1", y)))
  y = convolution(part / "conv2_kxk", y, stride=2 if stride == "depthwise" else 1)
  y = squeeze_excite(part / "se_early", y) if "se_early" in part else y
  y = activation(norm(part / "norm2", y))
  y = squeeze_excite(part / "se", y) if "se" in part else y
  return shortcut(part, x, strided) + linear(part / "conv3_1x1", y)


def convnext(part: Part, x, *, strided: bool):
  y = convolution(part / "conv_dw", x, stride=2 if strided else 1)
  return shortcut(part, x, strided) + feed_forward(part, norm(part / "norm", y), "ls")


def transformer(part: Part, x, *, strided: bool):
  y = norm(part / "norm1.norm" if strided else part / "norm1", x, 1e-6)
  y = attention(part / "attn", pool(y, part.facts["pool"]) if strided else y)
  x = shortcut(part, x, strided) + scaled(part, "ls1", y)
  return x + feed_forward(part, norm(part / "norm2", x, 1e-6), "ls2")


def shortcut(part: Part, x, strided: bool):
  x = pool(x, part.facts["pool"]) if strided else x
  return linear(part / "shortcut.expand", x) if "shortcut" in part else x


def feed_forward(part: Part, x, scale: str):
  x = ACTIVATIONS["gelu"](linear(part / "mlp.fc1", x))
  return scaled(part, scale, linear(part / "mlp.fc2", x))


def scaled(part: Part, name: str, x):
  return x * _along(part[f"{name}.gamma"], x) if name in part else x


def squeeze_excite(part: Part, x):
  gate = ACTIVATIONS[part.facts["squeeze"]](linear(part / "fc1", x.mean((1, 2), keepdims=True)))
  return x * jax.nn.sigmoid(linear(part / "fc2", gate))


def attention(part: Part, x):
  b, h, w, _ = x.shape
  # The fused outputs are ordered by head, then query, key and value, then the channel of a head.
  query, key, value = jnp.moveaxis(linear(part / "qkv", x).reshape(b, h * w, -1, 3, HEAD_SIZE), 3, 0)
  logits = jnp.einsum("bqnd,bknd->bnqk", query, key) / np.sqrt(HEAD_SIZE) + position_bias(part / "rel_pos", h, w)[None]
  weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
  weights = weights / weights.sum(-1, keepdims=True)
  return linear(part / "proj", jnp.einsum("bnqk,bknd->bqnd", weights, value).reshape(b, h, w, -1))


def position_bias(part: Part, h: int, w: int):
  """[head, query, key], read from a flat table at the shift query - key."""
  row, column = np.divmod(np.arange(h * w), w)
  shift = np.stack([row[:, None] - row[None], column[:, None] - column[None]])
  if "mlp" in part:
    rows, columns = np.mgrid[1 - h : h, 1 - w : w].reshape(2, -1)
    shifts = np.stack([rows, columns], -1)
    # timm keeps these in float32 whatever the model's type
    shifts = (np.sign(shifts) * np.log(1.0 + np.abs(shifts))).astype(np.float32)
    hidden = linear(part / "mlp.fc1", jnp.asarray(shifts, part["mlp.fc1.weight"].dtype))
    table = linear(part / "mlp.fc2", jnp.maximum(hidden, 0))
  else:
    table = part["relative_position_bias_table"]
  return jnp.moveaxis(table[(shift[0] + h - 1) * (2 * w - 1) + shift[1] + w - 1], -1, 0)


def norm(part: Part, x, epsilon: float | None = None):
  """BatchNorm where the tensors have running statistics (epsilon 1e-5 in convolution blocks), else LayerNorm (1e-6)."""
  if "running_mean" in part:
    mean, variance = part.statistics(x, part["running_mean"], part["running_var"])
    part.seen[part.name.removesuffix(".")] = mean, variance
    mean, variance, epsilon = _along(mean, x), _along(variance, x), epsilon or 1e-5
  else:
    mean = x.mean(-1, keepdims=True)
    variance, epsilon = ((x - mean) ** 2).mean(-1, keepdims=True), 1e-6
  return (x - mean) / jnp.sqrt(variance + epsilon) * _along(part["weight"], x) + _along(part["bias"], x)


def linear(part: Part, x):
  """Over the channels: a dense layer or a 1x1 convolution."""
  weight = part["weight"].reshape(part["weight"].shape[:2])
  x = jnp.einsum("...i,oi->...o", x, weight)
  return x + _along(part["bias"], x) if "bias" in part else x


def convolution(part: Part, x, *, stride: int = 1):
  """Padded alike on both sides. In as many groups as the kernel's second axis asks for."""
  kernel = part["weight"]
  half = kernel.shape[-1] // 2
  x = jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(half, half)] * 2,
    dimension_numbers=("NHWC", "OIHW", "NHWC"),
    feature_group_count=x.shape[-1] // kernel.shape[1],
  )
  return x + _along(part["bias"], x) if "bias" in part else x


def pool(x, kind: str):
  """Stride 2: the mean or maximum of windows of 2x2, or with "max3x3" of 3x3 around every second pixel."""
  size, padding = (3, [(0, 0), (1, 1), (1, 1), (0, 0)]) if kind == "max3x3" else (2, "SAME")
  window, strides = (1, size, size, 1), (1, 2, 2, 1)
  if kind.startswith("max"):
    return jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, strides, padding)
  true_pixels = np.ones((1, *x.shape[1:3], 1), x.dtype)
  total, count = (
    jax.lax.reduce_window(a, np.zeros((), x.dtype), jax.lax.add, window, strides, padding) for a in (x, true_pixels)
  )
  return total / count


def _along(vector, x):
  return vector.reshape((1,) * (x.ndim - 1) + (-1,))
