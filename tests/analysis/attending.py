"""Every layer of ours that attends, for the tests that hold for all; and its output by hand, from weights."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from convattn import layers
from convattn.analysis import attention_maps
from convattn.layers.grid_positions import GRID_POSITIONS

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((2, 5, 6, 8)).astype(np.float32)
TOKENS = RNG.standard_normal((2, 7, 8)).astype(np.float32)
CONTEXT = RNG.standard_normal((2, 4, 5)).astype(np.float32)
MASK = (RNG.random((2, 1, 7, 7)) < 0.7) | np.eye(7, dtype=bool)


@dataclasses.dataclass(frozen=True)
class Case:
  layer: nn.Module
  x: Any = dataclasses.field(default_factory=lambda: IMAGES)
  others: tuple[Any, ...] = ()
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  modes: tuple[str, ...] = ("probabilities", "logits", "content", "position", "norm_weighted")


BY_CONTENT = ("probabilities", "logits", "content", "norm_weighted")
BY_POSITION = ("probabilities", "logits", "position", "norm_weighted")
relative, grid = functools.partial(layers.RelativeAttention, 2), functools.partial(layers.GridAttention, 2)
tokens = functools.partial(layers.MultiHeadAttention, 2)
CASES = {
  "relative": Case(relative(out_width=5)),
  "relative post": Case(relative(relative="post"), modes=BY_CONTENT),
  "relative none": Case(relative(relative="none"), modes=BY_CONTENT),
  "relative mlp": Case(relative(position="mlp", position_hidden=4)),
  "relative by centre": Case(relative(position=GRID_POSITIONS["predicted_centre"])),
  **{f"grid {name}": Case(grid(name, width=4)) for name in GRID_POSITIONS},
  **{f"only {name}": Case(grid(name, content=False), modes=BY_POSITION) for name in GRID_POSITIONS},
  "grid none": Case(grid("none"), modes=BY_CONTENT),
  "gated": Case(layers.GatedPositionalAttention(4), modes=("probabilities", "content", "position", "norm_weighted")),
  "augmented": Case(layers.AugmentedConv(10, 4, 6, 2)),
  "sagan": Case(layers.SAGANAttention(4, 2), modes=BY_CONTENT),
  "sagan pooled": Case(layers.SAGANAttention(4, 2, pool=2), modes=BY_CONTENT),
  "sagan pooled by 3": Case(layers.SAGANAttention(4, 2, pool=3), modes=BY_CONTENT),
  "local": Case(layers.LocalAttention(2, 3)),
  "local, larger than the image": Case(layers.LocalAttention(2, 7, width=12)),
  "windows": Case(layers.WindowAttention(2, 3)),
  "shifted windows": Case(layers.WindowAttention(2, 4, shift=1)),
  "one shifted window": Case(layers.WindowAttention(2, 6, shift=2)),
  "self": Case(layers.SelfAttention(6), TOKENS, modes=BY_CONTENT),
  "self cosine, masked": Case(layers.SelfAttention(6, "cosine"), TOKENS, options={"mask": MASK}, modes=BY_CONTENT),
  "heads": Case(tokens(out_width=3, similarity="additive"), TOKENS, modes=BY_CONTENT),
  "causal": Case(tokens(causal=True), TOKENS, options={"mask": MASK}, modes=BY_CONTENT),
  "clipped": Case(tokens(clip=2), TOKENS),
  "clipped beyond, causal": Case(tokens(clip=9, causal=True), TOKENS),
  "cross": Case(layers.CrossAttention(2, 6, 3), TOKENS, (CONTEXT,), modes=BY_CONTENT),
}
WINDOWS = ("windows", "shifted windows", "one shifted window")
LOCAL = ("local", "local, larger than the image")


def drawn(case):
  init = functools.partial(case.layer.init, **case.options)
  shapes = jax.eval_shape(init, jax.random.key(0), case.x, *case.others)
  rng = np.random.default_rng(2)
  return jax.tree.map(lambda leaf: np.asarray(0.4 * rng.standard_normal(leaf.shape), np.float32), shapes)


@functools.cache
def looked_at(name):
  """(parameters in float64, output, map) of a case."""
  case = CASES[name]
  variables = drawn(case)
  out = jax.jit(case.layer.apply)(variables, case.x, *case.others, **case.options)
  (found,) = attention_maps(case.layer, variables, case.x, *case.others, **case.options)
  return jax.tree.map(np.float64, variables["params"]), np.asarray(out), found


def values(params, case, found):
  """[b, k, n, e] and, for vectors of shifts, [q, k, e] beside it."""
  seen = case.others[0] if case.others else case.x
  made = np.einsum("...c,cne->...ne", seen.astype(np.float64), params["value"]["kernel"])
  made = made + params["value"].get("bias", 0)
  if isinstance(case.layer, layers.SAGANAttention):  # the largest in the box of each key
    boxes = found.key_grid.boxes().astype(int)
    made = np.stack([made[:, top:bottom, left:right].max((1, 2)) for top, left, bottom, right in boxes], axis=1)
  made = made.reshape(len(made), -1, *made.shape[-2:])
  if "value_shifts" not in params:
    return made, np.zeros((1, made.shape[1], made.shape[-1]))
  clip, places = case.layer.clip, np.arange(made.shape[1])
  return made, params["value_shifts"][np.clip(places[None] - places[:, None], -clip, clip) + clip]


def contributions(params, case, found):
  """(what each head brings from each key to each query [b, n, q, k, o], or q of 1; the bias of the output)."""
  made, shifts = values(params, case, found)
  heads, size = made.shape[-2:]
  kernel = params["out"]["kernel"] if "out" in params else np.eye(heads * size).reshape(heads, size, -1)
  vectors = made[:, None] + shifts[..., None, :]  # [b, q or 1, k, n, e]
  return np.einsum("bqkne,neo->bnqko", vectors, kernel), params.get("out", {}).get("bias", 0)


def output(params, case, found, weights):
  """What the layer puts out where its weights are these, [b, n, q, k] over whole grids."""
  brought, bias = contributions(params, case, found)
  out = np.einsum("bnqk,bnqko->bqo", weights, np.broadcast_to(brought, (*weights.shape, brought.shape[-1]))) + bias
  if isinstance(case.layer, layers.SAGANAttention):
    out = case.x.reshape(out.shape) + params["gamma"] * out
  return out


def of_attention(case, out):
  """That part of a layer's output that comes from attention, [b, q, o]."""
  if isinstance(case.layer, layers.AugmentedConv):
    out = out[..., -case.layer.value_width :]
  return np.asarray(out).reshape(len(out), -1, out.shape[-1])
