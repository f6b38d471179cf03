"""Groups of attention that does not see everything: causal, masked, with queries that see nobody."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn import ops
from tests.properties.attention import HIGHEST, apply, logits, weights
from tests.properties.attention_layers import MHA, MHA_VARIABLES, PROJECTIONS, TOKENS, fixed, projected
from tests.properties.group import Group, draw, laws


def causal_conv(x, ahead=0):
  kernel = PROJECTIONS[0].reshape(4, 6)[:, :4][None] * jnp.asarray([0.3, -1, 0.5, 2])[:3, None, None]
  return jax.lax.conv_general_dilated(
    x, kernel, (1,), [(2 - ahead, ahead)], dimension_numbers=("NWC", "WIO", "NWC"), precision=HIGHEST
  )


def masked(x, ahead=0, hidden=-jnp.inf):
  n = x.shape[1]
  seen = np.tril(np.ones((n, n), bool), ahead)
  return projected(x, bias=jnp.where(seen, 0.0, hidden)[None, None])


def strictly(x):
  """The past alone. The first token, which has none, gets the mean of nothing: 0."""
  return jnp.concatenate([jnp.zeros_like(masked(x)[:, :1]), masked(x)[:, :-1]], 1) + 0.1 * jnp.cumsum(
    jnp.pad(x, [(0, 0), (1, 0), (0, 0)])[:, :-1], 1
  )


def peeking(x):
  future = jnp.roll(x, -1, 1)
  return projected(x, is_causal=True) + (future - jax.lax.stop_gradient(future))


def after_softmax(x):
  def core(q, k, v, bias, mask):
    w = weights(q, k)
    return apply(w * jnp.tri(w.shape[-1])[None, None], v)

  return projected(x, core=core)


def by_bias(q, k, v, seen, hidden=-jnp.inf):
  """Attention of ours, its output and its weights, that hides by a bias."""
  bias = jnp.broadcast_to(jnp.where(seen, 0.0, hidden), (q.shape[0], q.shape[2], q.shape[1], k.shape[1]))
  return ops.attend(q, k, v, bias=bias)


CAUSAL = Group(
  arrays=TOKENS,
  laws=laws("causal causal_jacobian positions_matter sees_itself"),
  ours={
    "attend with a bias": lambda x: projected(x, core=lambda q, k, v, *_: by_bias(q, k, v, jnp.tri(x.shape[1]) > 0)[0])
  },
  theirs={
    "jax.nn.dot_product_attention": lambda x: projected(x, is_causal=True),
    "jitted": jax.jit(lambda x: projected(x, is_causal=True)),
    "flax.linen.MultiHeadDotProductAttention": lambda x: MHA.apply(
      MHA_VARIABLES, x, mask=nn.make_causal_mask(x[..., 0])
    ),
    "jax.lax.conv_general_dilated": causal_conv,
    "flax.linen.Conv": lambda x: nn.Conv(3, (2,), padding="CAUSAL").apply(
      fixed(nn.Conv(3, (2,), padding="CAUSAL"), x), x
    ),
    "jax.numpy.cumsum": lambda x: jnp.cumsum(x, 1),
  },
  mutants={
    "causal: sees one ahead": lambda x: masked(x, ahead=1),
    "causal: a soft mask": lambda x: masked(x, hidden=-10.0),
    "causal: masked after the softmax": after_softmax,
    "causal: convolution padded alike": lambda x: causal_conv(x, ahead=1),
    "causal: mask transposed": lambda x: projected(
      x, bias=jnp.where(jnp.tri(x.shape[1]).T > 0, 0, -jnp.inf)[None, None]
    ),
    "causal: scaled by the sequence's mean": lambda x: projected(
      x / (1 + jnp.abs(x).mean(1, keepdims=True)), is_causal=True
    ),
    "causal: a value through a rounding": lambda x: jnp.round(jnp.roll(x, -1, 1)) + jnp.cumsum(x, 1),
    "causal_jacobian: gradient of the next token": peeking,
    "sees_itself: a mask that hides the token itself": lambda x: strictly(x),
    "sees_itself: the last token hidden from itself": lambda x: masked(x).at[:, -1].set(strictly(x)[:, -1]),
  },
)


def token_mask(x, keep):
  return jnp.broadcast_to(keep[:, None, None], (x.shape[0], 1, x.shape[1], x.shape[1]))


def masked_mean(x, keep):
  return x + jnp.mean(x, 1, keepdims=True, where=keep[..., None])


def masked_sum_over_all(x, keep):
  return x + jnp.where(keep[..., None], x, 0).sum(1, keepdims=True) / x.shape[1]


def lengths(*rows, size):
  return jnp.asarray([[place < row for place in range(size)] for row in rows])


MASKED = Group(
  arrays=((*draw((2, 5, 4)), lengths(3, 4, size=5)), (*draw((3, 7, 4), seed=1), lengths(7, 2, 5, size=7))),
  laws=laws("mask_isolates mask_is_truncation"),
  ours={
    "attend with a bias": lambda x, keep: projected(
      x, core=lambda q, k, v, *_: by_bias(q, k, v, keep[:, None, None])[0]
    ),
    "attend with a mask": lambda x, keep: projected(
      x, core=lambda q, k, v, *_: ops.attend(q, k, v, mask=keep[:, None, None])[0]
    ),
  },
  theirs={
    "jax.nn.dot_product_attention": lambda x, keep: projected(x, mask=token_mask(x, keep)),
    "flax.linen.MultiHeadDotProductAttention": lambda x, keep: MHA.apply(MHA_VARIABLES, x, mask=token_mask(x, keep)),
    "jax.numpy.mean": masked_mean,
  },
  mutants={
    "mask_isolates: a soft mask": lambda x, keep: projected(x, bias=jnp.where(token_mask(x, keep), 0.0, -12.0)),
    "mask_isolates: a soft mask that only large content passes": lambda x, keep: projected(
      x, bias=jnp.where(token_mask(x, keep), 0.0, -100.0)
    ),
    "mask_isolates: mask forgotten": lambda x, keep: projected(x),
    "mask_isolates: mask of the first sample": lambda x, keep: projected(
      x, mask=token_mask(x, keep[:1] | ~keep | keep)
    ),
    "mask_isolates: statistics over the padding": lambda x, keep: masked_mean(x - x.mean(1, keepdims=True), keep),
    "mask_is_truncation: divides by the padded length": masked_sum_over_all,
    "mask_is_truncation: hidden values set to zero, not their weights": lambda x, keep: projected(
      jnp.where(keep[..., None], x, 0)
    ),
  },
)


def sanitised(x, keep):
  return projected(jnp.where(keep[..., None], x, 0), mask=token_mask(x, keep))


SANITISED = Group(
  arrays=MASKED.arrays,
  laws=laws("mask_stops_nan mask_isolates"),
  ours={
    "attend, cleaned": lambda x, keep: projected(
      jnp.where(keep[..., None], x, 0), core=lambda q, k, v, *_: ops.attend(q, k, v, mask=keep[:, None, None])[0]
    ),
    "attention_weights": lambda x, keep: ops.attention_weights(
      ops.dot(x[:, :, None], x[:, :, None]), mask=keep[:, None, None]
    ),
  },
  theirs={
    "jax.numpy.mean": masked_mean,
    "jax.nn.dot_product_attention, cleaned": sanitised,
    "flax attention, cleaned": lambda x, keep: MHA.apply(
      MHA_VARIABLES, jnp.where(keep[..., None], x, 0), mask=token_mask(x, keep)
    ),
  },
  mutants={
    "mask_stops_nan: values not cleaned": lambda x, keep: projected(x, mask=token_mask(x, keep)),
    "mask_stops_nan: cleans NaN alone": lambda x, keep: (
      x + (jnp.where(jnp.isnan(x), 0, x) * keep[..., None]).sum(1, keepdims=True)
    ),
    "mask_stops_nan: times the mask": lambda x, keep: x + (x * keep[..., None]).sum(1, keepdims=True),
    "mask_isolates: half cleaned": lambda x, keep: (
      x + jnp.nan_to_num(jnp.where(keep[..., None], x, x * 0.1)).sum(1, keepdims=True)
    ),
  },
)

PAIRS = (
  (
    *draw((2, 3, 2, 4), (2, 5, 2, 4)),
    jnp.asarray(np.random.default_rng(0).random((2, 1, 3, 5)) < 0.7).at[..., 0].set(True),
  ),
  (
    *draw((1, 7, 3, 5), (1, 4, 3, 5), seed=1),
    jnp.asarray(np.random.default_rng(1).random((1, 1, 7, 4)) < 0.6).at[..., 1].set(True),
  ),
)


def masked_weights(q, k, mask, hidden):
  return weights(q, k, jnp.where(mask, 0.0, hidden))


UNIFORM = Group(
  arrays=PAIRS,
  laws=laws("rows_stochastic", fully_masked_row={"policy": "uniform"}),
  ours={"attend with a finite bias": lambda q, k, mask: by_bias(q, k, k, mask, jnp.finfo(jnp.float32).min / 2)[1]},
  theirs={
    "flax.linen.dot_product_attention_weights": lambda q, k, mask: nn.dot_product_attention_weights(q, k, mask=mask),
    "jax.nn.softmax of finite logits": lambda q, k, mask: masked_weights(q, k, mask, -1e30),
  },
  mutants={
    "fully_masked_row: minus infinity": lambda q, k, mask: masked_weights(q, k, mask, -jnp.inf),
    "fully_masked_row: keeps the first key": lambda q, k, mask: masked_weights(
      q, k, jnp.where(mask.any(-1, keepdims=True), mask, jnp.arange(mask.shape[-1]) < 1), -1e30
    ),
  },
)


def zeroed(q, k, mask):
  w = masked_weights(q, k, mask, -1e30)
  return jnp.where(mask.any(-1, keepdims=True), w, 0)


ZEROED = Group(
  arrays=PAIRS,
  laws=laws(fully_masked_row={"policy": "zeros"}),
  ours={"attend": lambda q, k, mask: ops.attend(q, k, k, mask=mask)[1]},
  theirs={
    "jax.numpy.where": zeroed,
    "jax.numpy.exp": lambda q, k, mask: (lambda e: e / jnp.maximum(e.sum(-1, keepdims=True), 1e-30))(
      jnp.exp(logits(q, k, jnp.zeros((q.shape[2], 1, 1)))) * mask
    ),
  },
  mutants={
    "fully_masked_row: uniform": lambda q, k, mask: masked_weights(q, k, mask, -1e30),
    "fully_masked_row: the last row alone": lambda q, k, mask: (
      masked_weights(q, k, mask, -1e30).at[:, :, -1].set(zeroed(q, k, mask)[:, :, -1])
    ),
    "fully_masked_row: all rows zero where one is": lambda q, k, mask: jnp.where(
      mask.any(-1).all(), zeroed(q, k, mask), 0
    ),
  },
)
FINITE = Group(
  arrays=PAIRS,
  laws=laws(fully_masked_row={"policy": "finite", "axis": 1}),
  ours={"attend": lambda q, k, mask: ops.attend(q, k, k, mask=mask)[0]},
  theirs={
    "jax.nn.dot_product_attention": lambda q, k, mask: jax.nn.dot_product_attention(q, k, k, mask=mask),
    "flax.linen.dot_product_attention": lambda q, k, mask: nn.dot_product_attention(q, k, k, mask=mask),
  },
  mutants={"fully_masked_row: minus infinity": lambda q, k, mask: apply(masked_weights(q, k, mask, -jnp.inf), k)},
)
