"""Small CoAtNets that together have every choice of every setting, on odd rectangular images."""

import jax
import numpy as np

from convattn.models import CoAtNet, Run, Spec, Stage
from convattn.pretrained.pictures import Preprocessing


def layout(*rows):
  """Stages of rows (letters, widths, stride)."""
  return tuple(
    Stage(tuple(Run(letter, 1, width) for letter, width in zip(letters, widths, strict=True)), stride)
    for letters, widths, stride in rows
  )


SPECS = {
  "defaults": (Spec(layout(("CC", (6, 6), 2), ("T", (8,), 2), ("T", (8,), 1)), (4, 5), head_size=4), (11, 14, 3), 3),
  "other_mbconv": (
    Spec(
      layout(("C", (6,), 2), ("CT", (9, 8), 3)),
      (5,),
      stem_bias=True,
      stem_stride=1,
      conv_stride="depthwise",
      pool="avg",
      conv_activation="silu",
      conv_pre_norm_activation=True,
      conv_expand_from="input",
      conv_expansion=3,
      conv_bias=False,
      squeeze_from="expanded",
      squeeze_at="before",
      squeeze_activation="relu",
      squeeze_ratio=0.3,
      relative_position="mlp",
      relative_hidden=7,
      relative_dropout=0.1,
      attention_width_from="input",
      head_size=3,
      attention_shortcut_bias=False,
      attention_activation="gelu_tanh",
      attention_layer_scale=0.1,
      head="norm_first",
    ),
    (7, 10, 1),
    4,
  ),
  "pooled": (
    Spec(
      layout(("C", (6,), 2), ("C", (6,), 1), ("T", (10,), 2)),
      (4, 6),
      stem_stride=1,
      conv_stride="pool",
      pool="max3x3",
      conv_norm="layer",
      conv_norm_epsilon=1e-3,
      conv_activation="gelu_tanh",
      squeeze_activation="gelu",
      relative_attention="post",
      attention_norm="batch",
      attention_norm_epsilon=1e-2,
      attention_activation="silu",
      attention_expansion=2,
      head_size=5,
      head="plain",
      stochastic_depth=0.2,
    ),
    (9, 7, 1),
    5,
  ),
  "convnext": (
    Spec(
      layout(("XX", (8, 8), 2), ("T", (8,), 1)),
      (4,),
      stem_kernel=4,
      stem_stride=3,
      conv_stride="depthwise",
      conv_activation="relu",
      conv_norm="layer",
      conv_layer_scale=0.2,
      squeeze_activation="gelu_tanh",
      relative_attention="none",
      attention_activation="relu",
      head_size=8,
    ),
    (16, 25, 3),
    3,
  ),
  "convnext_pooled": (
    Spec(
      layout(("X", (4,), 2), ("X", (8,), 1)),
      (4,),
      conv_stride="pool",
      pool="avg",
      head="norm_first",
      attention_norm="batch",
    ),
    (13, 9, 1),
    2,
  ),
  "causal": (
    Spec(layout(("D", (6,), 2), ("DT", (6, 8), 1)), (4,), stem_stride=1, causal_depth=3, causal_taps=2, head_size=4),
    (3, 19, 1),
    3,
  ),
  "without_classes": (Spec(layout(("T", (8,), 2)), (4,), head_size=4), (5, 9, 3), 0),
}  # fmt: skip


def small_model(name, seed=0):
  """(model, variables that are nowhere at their initial values, image shape)."""
  spec, shape, num_classes = SPECS[name]
  model = CoAtNet(spec, num_classes)
  variables = jax.jit(lambda key, x: model.init(key, x, train=False))(jax.random.key(seed), np.zeros((1, *shape)))
  return model, disturbed(variables, seed), shape


def disturbed(variables, seed):
  """Params and statistics as if something had been learned: scales, biases, means and variances differ by channel."""
  draws = np.random.default_rng(seed)

  def drawn(path, value):
    name, value = path[-1].key, np.asarray(value)
    if name in ("scale", "var"):
      return draws.uniform(0.5, 1.5, value.shape).astype(np.float32)
    spread = {"kernel": 0.0, "bias_table": 1.0}.get(name, 0.2)
    return value + spread * draws.normal(size=value.shape).astype(np.float32)

  kept = {name: variables[name] for name in ("params", "batch_stats") if name in variables}
  return jax.tree_util.tree_map_with_path(drawn, kept)


def preprocessing_for(shape):
  return Preprocessing(shape[:2], (0.25,) * shape[2], (0.5,) * shape[2])
