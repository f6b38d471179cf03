"""The layers' equations on small images [b, h, w, c], in NumPy: no convolution, no pooling, no layer of anybody's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def image(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def initialise(layer, *inputs, **keywords):
  """Drawn variables of a layer's shapes: nothing is compiled, and no zero or one hides a term."""
  shapes = jax.eval_shape(functools.partial(layer.init, **keywords), jax.random.key(0), *inputs)
  rng = np.random.default_rng(1)

  def drawn(path, leaf):
    x = rng.standard_normal(leaf.shape)
    if path[-1].key in ("scale", "var"):
      x = 1 + 0.2 * np.abs(x)
    elif leaf.ndim > 1 and path[-1].key == "kernel":
      x = x / np.sqrt(np.prod(leaf.shape[:-1]))
    else:
      x = 0.3 * x
    return np.asarray(x, leaf.dtype)

  return jax.tree_util.tree_map_with_path(drawn, shapes)


def apply(layer, variables, *inputs, **keywords):
  """One program in place of one for each operation."""
  return jax.jit(lambda v, *inputs: layer.apply(v, *inputs, **keywords))(variables, *inputs)


def sigmoid(x):
  return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


ACTIVATIONS = {
  "gelu": lambda x: np.asarray(jax.nn.gelu(np.asarray(x, np.float32), approximate=False)),
  "silu": lambda x: x * sigmoid(x),
  "relu": lambda x: np.maximum(x, 0),
}
gelu = ACTIVATIONS["gelu"]


def norm(x, p, statistics, epsilon):
  x = np.asarray(x)
  mean, variance = (
    (statistics["mean"], statistics["var"]) if statistics else (x.mean(-1, keepdims=True), x.var(-1, keepdims=True))
  )
  return (x - np.asarray(mean)) / np.sqrt(np.asarray(variance) + epsilon) * np.asarray(p["scale"]) + np.asarray(
    p["bias"]
  )


def dense(x, p):
  return np.asarray(x) @ np.asarray(p["kernel"]) + np.asarray(p.get("bias", 0))


def depthwise(x, p, stride=1):
  """Padded alike on both sides; each channel of x feeds as many outputs in a row as the kernel has for it."""
  kernel = np.asarray(p["kernel"])
  size = kernel.shape[0]
  x = np.repeat(np.asarray(x), kernel.shape[-1] // x.shape[-1], -1)
  height, width = x.shape[1:3]
  padded = np.pad(x, [(0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)])
  taps = (
    padded[:, i : i + height, j : j + width][:, ::stride, ::stride] * kernel[i, j, 0] for i, j in np.ndindex(size, size)
  )
  return sum(taps) + np.asarray(p.get("bias", 0))


def pool(x, kind, stride):
  """Windows of stride x stride, or for "max3x3" of 3x3 around every stride-th pixel, cut off at the image's border."""
  x = np.asarray(x)
  before, after = (1, 2) if kind == "max3x3" else (0, stride)
  reduce = np.mean if kind == "avg" else np.max
  rows, columns = (range(0, size, stride) for size in x.shape[1:3])
  windows = [[x[:, max(i - before, 0) : i + after, max(j - before, 0) : j + after] for j in columns] for i in rows]
  return np.stack([np.stack([reduce(window, (1, 2)) for window in row], 1) for row in windows], 1)


def feed_forward(x, p):
  return dense(gelu(dense(x, p["expand"])), p["project"])


def squeeze_excite(x, p, activation):
  gate = dense(ACTIVATIONS[activation](dense(x.mean((1, 2), keepdims=True), p["reduce"])), p["expand"])
  return x * sigmoid(gate)


def shortcut(x, p, kind, stride):
  x = pool(x, kind, stride) if stride > 1 else np.asarray(x)
  return dense(x, p["shortcut"]["project"]) if "shortcut" in p else x


def mbconv(layer, variables, x):
  """layers.MBConv in evaluation, with its fields."""
  p, statistics, activation = variables["params"], variables["batch_stats"], ACTIVATIONS[layer.activation]
  norm_of = lambda y, name: norm(y, p[name], statistics[name], layer.norm_epsilon)  # noqa: E731
  y = norm_of(x, "pre_norm")
  y = activation(y) if layer.pre_norm_activation else y
  y = pool(y, "avg", layer.stride) if layer.stride_at == "pool" else y
  y = y[:, :: layer.stride, :: layer.stride] if layer.stride_at == "expand" else y
  y = activation(norm_of(dense(y, p["expand"]), "expand_norm"))
  y = depthwise(y, p["depthwise"], layer.stride if layer.stride_at == "depthwise" else 1)
  y = squeeze_excite(y, p["squeeze_excite"], layer.squeeze_activation) if layer.squeeze_at == "before" else y
  y = activation(norm_of(y, "depthwise_norm"))
  y = squeeze_excite(y, p["squeeze_excite"], layer.squeeze_activation) if layer.squeeze_at == "after" else y
  return shortcut(x, p, layer.pool, layer.stride) + dense(y, p["project"])


def position_table(p, height, width):
  """layers.PositionMLP without dropout: [heads, 2h-1, 2w-1]."""
  table = np.zeros((p["out"]["bias"].size, 2 * height - 1, 2 * width - 1))
  for row, column in np.ndindex(table.shape[1:]):
    shift = np.array([row - height + 1, column - width + 1])
    hidden = np.maximum(dense(np.sign(shift) * np.log(1 + np.abs(shift)), p["hidden"]), 0)
    table[:, row, column] = dense(hidden, p["out"])
  return table


def attention(x, p, relative="pre"):
  """layers.RelativeAttention: (output, weights [b, head, query, key])."""
  b, h, w, _ = x.shape
  place = np.stack(np.divmod(np.arange(h * w), w), -1)
  shift = place[None] - place[:, None] + [h - 1, w - 1]  # [query, key, 2], key - query
  query, key, value = (
    np.einsum("bhwc,cnd->bnhwd", x, p[part]["kernel"]).reshape(b, -1, h * w, p[part]["kernel"].shape[-1])
    + np.asarray(p[part]["bias"])[None, :, None]
    for part in ("query", "key", "value")
  )
  logits = query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1])
  table = position_table(p["bias_mlp"], h, w) if "bias_mlp" in p else np.asarray(p.get("bias_table", 0))
  bias = table[None, :, shift[..., 0], shift[..., 1]] if relative != "none" else 0
  weights = np.exp(logits + bias if relative == "pre" else logits)
  weights = weights / weights.sum(-1, keepdims=True) + (bias if relative == "post" else 0)
  out = np.einsum("bnqd,ndc->bqc", weights @ value, p["out"]["kernel"]) + np.asarray(p["out"]["bias"])
  return out.reshape(b, h, w, -1), weights


def transformer_block(layer, variables, x):
  """layers.TransformerBlock in evaluation, with its fields."""
  p, statistics = variables["params"], variables.get("batch_stats", {})
  norm_of = lambda y, name: norm(y, p[name], statistics.get(name), layer.norm_epsilon)  # noqa: E731
  scaled = lambda y, name: y * np.asarray(p[name]["scale"]) if name in p else y  # noqa: E731
  y = norm_of(x, "attention_norm")  # norm first, then pool
  y = pool(y, layer.pool, layer.stride) if layer.stride > 1 else y
  y = shortcut(x, p, layer.pool, layer.stride) + scaled(attention(y, p["attention"])[0], "attention_scale")
  return y + scaled(feed_forward(norm_of(y, "feed_forward_norm"), p["feed_forward"]), "feed_forward_scale")


def convnext_block(layer, variables, x):
  """layers.ConvNeXtBlock with LayerNorm, with its other fields."""
  p = variables["params"]
  y = pool(x, "avg", layer.stride) if layer.stride_at == "pool" and layer.stride > 1 else np.asarray(x)
  y = norm(depthwise(y, p["depthwise"], layer.stride if layer.stride_at == "depthwise" else 1), p["norm"], None, 1e-6)
  y = feed_forward(y, p["feed_forward"])
  y = y * np.asarray(p["scale"]["scale"]) if layer.layer_scale else y
  return shortcut(x, p, layer.pool, layer.stride) + y
