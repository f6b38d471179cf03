"""Path and shape of every variable of every public layer, as the examples of every_layer.py make it."""


def _dense(path, *shape):
  return {f"params/{path}/kernel": shape, f"params/{path}/bias": shape[1:]}


def _norm(path, channels, batch):
  prefix = f"{path}/" if path else ""
  named = {f"params/{prefix}{leaf}": (channels,) for leaf in ("scale", "bias")}
  return named | ({f"batch_stats/{prefix}{leaf}": (channels,) for leaf in ("mean", "var")} if batch else {})


def _attention(prefix, channels, heads, size, table):
  p = f"{prefix}/" if prefix else ""
  projections = {
    k: v for part in ("query", "key", "value") for k, v in _dense(f"{p}{part}", channels, heads, size).items()
  }
  out = {f"params/{p}out/kernel": (heads, size, heads * size), f"params/{p}out/bias": (heads * size,)}
  return projections | out | ({f"params/{p}bias_table": table} if table else {})


def _kernels(**shapes):
  return {f"params/{path}/kernel": shape for path, shape in shapes.items()}


def _projections(channels, heads, size, width, prefix=""):
  """Of attention whose key has no bias."""
  dense = _dense(f"{prefix}query", channels, heads, size) | _dense(f"{prefix}value", channels, heads, size)
  key = {f"params/{prefix}key/kernel": (channels, heads, size)}
  return dense | key | {f"params/{prefix}out/kernel": (heads, size, width), f"params/{prefix}out/bias": (width,)}


NAMES = {
  "AugmentedConv": {
    "params/conv/kernel": (3, 3, 8, 4),
    **_kernels(query=(8, 2, 2), key=(8, 2, 2), value=(8, 2, 3)),
    "params/out/kernel": (2, 3, 6),
    "params/out/bias": (6,),
    "params/position/rows": (9, 2),
    "params/position/columns": (11, 2),
  },
  "BatchNorm": _norm("", 8, True),
  "BiasMLP": _attention("", 8, 2, 4, None) | _dense("bias_mlp/hidden", 2, 5) | _dense("bias_mlp/out", 5, 2),
  "BiasTable": {
    "params/position/bias_table": (2, 9, 11),
    **_dense("value", 8, 2, 4),
    "params/out/kernel": (2, 4, 8),
    "params/out/bias": (8,),
  },
  "Classifier": _norm("norm", 8, False) | _dense("hidden", 8, 8) | _dense("logits", 8, 7),
  "CausalBlock": {
    **_dense("shortcut/project", 8, 6),
    **_norm("norm", 8, True),
    **_dense("stack/start", 8, 6),
    **{
      f"params/stack/conv_{i}/{leaf}": shape
      for i in (1, 2)
      for leaf, shape in (("kernel", (3, 6, 12)), ("bias", (12,)))
    },
    **_dense("stack/skip_1", 6, 6),
    **_dense("stack/residual_1", 6, 6),
    **_dense("stack/skip_2", 6, 6),
  },
  "CausalConv": {"params/kernel": (3, 8, 6), "params/bias": (6,)},
  "ConvBlock": {"params/conv/kernel": (3, 3, 8, 6), **_norm("norm", 6, True)},
  "CrossAttention": _projections(8, 2, 3, 10, "cross/"),
  "Conv": {"params/kernel": (3, 3, 8, 4), "params/bias": (4,)},
  "ConvNeXtBlock": {
    **_dense("shortcut/project", 8, 16),
    "params/depthwise/kernel": (7, 7, 1, 16),
    "params/depthwise/bias": (16,),
    **_norm("norm", 16, False),
    **_dense("feed_forward/expand", 16, 64),
    **_dense("feed_forward/project", 64, 16),
    "params/scale/scale": (16,),
  },
  "DepthwiseBlock": {"params/depthwise/kernel": (3, 3, 1, 8), **_norm("norm", 8, True)},
  "DepthwiseConv": {"params/kernel": (3, 3, 1, 8)},
  "DilatedStack": {
    **_dense("start", 8, 6),
    **{f"params/conv_{i}/{leaf}": shape for i in (1, 2) for leaf, shape in (("kernel", (2, 6, 12)), ("bias", (12,)))},
    **_dense("skip_1", 6, 6),
    **_dense("residual_1", 6, 6),
    **_dense("skip_2", 6, 6),
  },
  "FeedForward": _dense("expand", 8, 32) | _dense("project", 32, 8),
  "FullyConnected": {"params/kernel": (5, 6, 8, 2, 2, 4), "params/bias": (2, 2, 4)},
  "GatedPositionalAttention": {
    **_kernels(query=(8, 2, 4), key=(8, 2, 4), value=(8, 2, 4), out=(2, 4, 8)),
    "params/out/bias": (8,),
    "params/position": (2, 3),
    "params/gate": (2,),
  },
  "GridAttention": {
    **_projections(8, 2, 4, 8),
    "params/position/rows": (9, 4),
    "params/position/columns": (11, 4),
  },
  "InvertedResidual": {
    "params/expand/kernel": (8, 16),
    **_norm("expand_norm", 16, True),
    "params/depthwise/kernel": (3, 3, 1, 16),
    **_norm("depthwise_norm", 16, True),
    "params/project/kernel": (16, 8),
    **_norm("project_norm", 8, True),
  },
  "LayerNorm": _norm("", 8, False),
  "LayerScale": {"params/scale": (8,)},
  "LearnedPositions": {"params/table": (9, 8)},
  "LocalAttention": {
    **_kernels(query=(8, 2, 4), key=(8, 2, 4), value=(8, 2, 4)),
    "params/rows": (3, 2),
    "params/columns": (3, 2),
  },
  "MBConv": {
    **_dense("shortcut/project", 8, 12),
    **_norm("pre_norm", 8, True),
    "params/expand/kernel": (8, 48),
    **_norm("expand_norm", 48, True),
    "params/depthwise/kernel": (3, 3, 1, 48),
    **_norm("depthwise_norm", 48, True),
    **_dense("squeeze_excite/reduce", 48, 3),
    **_dense("squeeze_excite/expand", 3, 48),
    **_dense("project", 48, 12),
  },
  "MultiHeadAttention": _projections(8, 2, 4, 8) | {"params/key_shifts": (5, 4), "params/value_shifts": (5, 4)},
  "PositionMLP": _attention("", 8, 2, 4, None) | _dense("bias_mlp/hidden", 2, 5) | _dense("bias_mlp/out", 5, 2),
  "RelativeAttention": _attention("", 8, 2, 4, (2, 9, 11)),
  "SAGANAttention": _kernels(query=(8, 1, 1), key=(8, 1, 1), value=(8, 1, 4), out=(1, 4, 8)) | {"params/gamma": ()},
  "SelfAttention": _kernels(query=(8, 1, 6), key=(8, 1, 6), value=(8, 1, 6)),
  "SeparableConv": {
    "params/depthwise/depthwise/kernel": (3, 3, 1, 8),
    **_norm("depthwise/norm", 8, True),
    "params/pointwise/conv/kernel": (1, 1, 8, 6),
    **_norm("pointwise/norm", 6, True),
  },
  "Shortcut": _dense("project", 8, 12),
  "SinusoidalPositions": {},
  "SqueezeExcite": _dense("reduce", 8, 3) | _dense("expand", 3, 8),
  "Stem": {"params/conv_1/kernel": (3, 3, 8, 4), "params/conv_2/kernel": (3, 3, 4, 6), **_norm("norm_1", 4, True)},
  "StochasticDepth": {},
  "TransformerBlock": {
    **_dense("shortcut/project", 8, 12),
    **_norm("attention_norm", 8, False),
    **_attention("attention", 8, 3, 4, (3, 5, 5)),
    **_norm("feed_forward_norm", 12, False),
    **_dense("feed_forward/expand", 12, 48),
    **_dense("feed_forward/project", 48, 12),
  },
  "WindowAttention": _projections(8, 2, 4, 8) | {"params/bias_table": (2, 7, 7)},
}
