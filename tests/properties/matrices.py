"""Groups of functions of numbers, of matrices, and of weights over a grid."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn import equivalence, ops
from convattn.layers.heads import Similarity
from tests.properties.attention import PEERS, attention, gram, unit
from tests.properties.group import Group, draw, laws
from tests.properties.kernels import images, windows

NUMBERS = Group(
  arrays=(draw((3, 5)), draw((2, 7), seed=1)),
  laws=laws("monotone odd"),
  ours={"log_shifts, interpolated": lambda x: jnp.interp(x, jnp.arange(-99.0, 100), ops.log_shifts(100, 1)[:, 0, 0])},
  theirs={
    "log": lambda x: jnp.sign(x) * jnp.log1p(jnp.abs(x)),
    "jax.numpy.tanh": jnp.tanh,
    "jax.numpy.arcsinh": jnp.arcsinh,
  },
  mutants={
    "odd: absolute value": lambda x: jnp.log1p(jnp.exp(x)),
    "monotone: falls where it is large": lambda x: (
      jnp.sign(x) * jnp.where(jnp.abs(x) > 4, 4.4 - 0.1 * jnp.abs(x), jnp.abs(x))
    ),
    "monotone: sine": lambda x: jnp.sin(3 * x),
    "monotone: turned": lambda x: -x,
    "odd: moved": lambda x: x + 0.01,
  },
)
POSITIVE = Group(
  arrays=(draw((2, 5, 7, 3)), draw((1, 4, 3, 2), seed=1)),
  laws=laws("monotone", homogeneous={"positive": True}),
  ours={"max_pool": lambda x: ops.max_pool(x, window=3, stride=2)},
  theirs={"jax.nn.relu": jax.nn.relu, "flax.linen.max_pool": lambda x: nn.max_pool(x, (3, 3))},
  mutants={
    "homogeneous: relu6": jax.nn.relu6,
    "homogeneous: gelu": jax.nn.gelu,
    "homogeneous: softplus": jax.nn.softplus,
  },
)


DEPTH = Group(
  arrays=(draw((2, 6, 9, 4)), draw((1, 9, 3, 5), seed=1)),
  laws=laws(inverse=lambda x: {"inverse": lambda parts: images(parts, 3, x.shape)}),
  ours={"window_partition": lambda x: ops.window_partition(x, (3, 3))},
  theirs={
    "windows": lambda x: windows(x, 3),
    "windows of einops's order": lambda x: (
      x.reshape(x.shape[0], x.shape[1] // 3, 3, x.shape[2] // 3, 3, -1).swapaxes(2, 3).reshape(-1, 9, x.shape[-1])
    ),
  },
  mutants={
    "inverse: rows and columns swapped": lambda x: (
      windows(x, 3).reshape(-1, 3, 3, x.shape[-1]).swapaxes(1, 2).reshape(-1, 9, x.shape[-1])
    ),
    "inverse: reshaped alone": lambda x: x.reshape(-1, 9, x.shape[-1]),
    "inverse: through bfloat16": lambda x: windows(x, 3).astype(jnp.bfloat16),
  },
)
PRODUCT = Group(
  arrays=(draw((5, 2), (2, 7)), draw((2, 6, 2), (2, 2, 5), seed=1)),
  laws=laws(rank_at_most={"rank": 2}),
  ours={"logits of a head": lambda a, b: logits_of_a_head(a, b)},
  theirs={"jax.numpy.matmul": jnp.matmul, "jax.numpy.einsum": lambda a, b: jnp.einsum("...ij,...jk->...ik", a, b)},
  mutants={
    "rank_at_most: activation": lambda a, b: jnp.tanh(jnp.matmul(a, b)),
    "rank_at_most: diagonal added": lambda a, b: jnp.matmul(a, b) + 0.1 * jnp.eye(5, 7),
  },
)


def logits_of_a_head(a, b):
  """As wide as the rank: [..., m, d] [..., d, n]."""
  query, key = (x.reshape(-1, x.shape[-2], 1, x.shape[-1]) for x in (a, jnp.swapaxes(b, -1, -2)))
  return ops.dot(query, key).reshape(*a.shape[:-1], b.shape[-1])


def spectral(w, iterations):
  u = jnp.ones(w.shape[0])
  for _ in range(iterations):
    v = jnp.matmul(w.T, u)
    v = v / jnp.linalg.norm(v)
    u = jnp.matmul(w, v)
    u = u / jnp.linalg.norm(u)
  return w / jnp.dot(u, jnp.matmul(w, v))


def weights_of_table(w, padding, size=9):
  """[pixels, pixels] over an image of 9 x 9. On a torus rows and columns sum to one: a mean of permutations."""
  layer = equivalence.TableAttention(num_heads=1, features=1, window=w.shape, padding=padding, use_bias=False)
  variables = {"params": {"table": w[None], "value": jnp.ones((1, 1, 1))}}
  _, sown = layer.apply(variables, jnp.ones((1, size, size, 1)), mutable="intermediates")
  return sown["intermediates"]["attention"][0][0, 0]


SPECTRAL = Group(
  arrays=(draw((5, 4), seed=4), draw((3, 7), seed=1)),
  laws=laws("spectral_norm_one"),
  ours={"TableAttention on a torus": lambda w: weights_of_table(w, "CIRCULAR")},
  theirs={
    "power iterations": jax.jit(lambda w: spectral(w, 60)),
    "jax.numpy.linalg.norm": lambda w: w / jnp.linalg.norm(w, 2),
  },
  mutants={
    "spectral_norm_one: longest row": lambda w: w / jnp.linalg.norm(w, axis=1).max(),
    "spectral_norm_one: Frobenius": lambda w: w / jnp.linalg.norm(w),
    "spectral_norm_one: repeated border": lambda w: weights_of_table(w, "EDGE"),
  },
)


def additive(q, k):
  return jnp.tanh(q[..., :, None, :] + k[..., None, :, :]).sum(-1)


def cosine(q, k):
  return 4 * jnp.einsum("bqd,bkd->bqk", unit(q), unit(k))


def one_head(similarity, *parameters):
  """Of vectors [b, n, d]."""
  return lambda q, k: similarity(q[:, :, None], k[:, :, None], *parameters)[:, 0]


def limited(q, k):
  """A learnt scale of exp(9) is no more than 100."""
  return Similarity("cosine").apply({"params": {"scale": jnp.full(1, 9.0)}}, q, k) / 25


BOUNDED = Group(
  arrays=(draw((2, 3, 4), (2, 5, 4)), draw((1, 4, 4), (1, 3, 4), seed=1)),
  laws=laws(bounded={"bound": 4.0}),
  ours={
    "Similarity, cosine of a large scale": one_head(limited),
    "additive": one_head(ops.additive, *(jnp.eye(4)[None],) * 2, jnp.ones((1, 4))),
    "cosine": one_head(lambda q, k: 4 * ops.cosine(q, k)),
  },
  theirs={"additive": additive, "cosine": cosine},
  mutants={
    "bounded: dot product": lambda q, k: jnp.einsum("bqd,bkd->bqk", q, k),
    "bounded: scaled": lambda q, k: 1.5 * additive(q, k),
  },
)
COSINES = Group(
  arrays=BOUNDED.arrays,
  laws=laws(scale_invariant=(0, 1), bounded={"bound": 4.0}),
  ours={"cosine": BOUNDED.ours["cosine"]},
  theirs={
    "jax.numpy.linalg.norm": cosine,
    "rsqrt": lambda q, k: (
      4 * jnp.einsum("bqd,bkd->bqk", *(a * jax.lax.rsqrt((a**2).sum(-1, keepdims=True)) for a in (q, k)))
    ),
  },
  mutants={
    "scale_invariant: keys alone": lambda q, k: jnp.tanh(cosine(q, k) * jnp.linalg.norm(q, axis=-1, keepdims=True))
  },
)


def quadratic(x, skew=0.0, content=0.0):
  """Weights over the grid of an image, of a Gaussian around the query."""
  h, w = x.shape[1:3]
  row, column = np.divmod(np.arange(h * w), w)
  rows, columns = row[None] - row[:, None] - 0.3, column[None] - column[:, None] + 0.6
  bend = rows**2 + 0.5 * columns**2 + skew * rows * columns
  return jax.nn.softmax(-jnp.asarray(bend, jnp.float32)[None] + content * gram(x.reshape(x.shape[0], h * w, -1)), -1)


def outer(x):
  h, w = x.shape[1:3]

  def line(n, centre):
    delta = np.arange(n)[None] - np.arange(n)[:, None] - centre
    return jax.nn.softmax(-jnp.abs(jnp.asarray(delta, jnp.float32)), -1)

  return jnp.kron(line(h, 0.4), line(w, -1))[None]


GRIDS = Group(
  arrays=(draw((2, 3, 4, 2)), draw((1, 5, 2, 3), seed=1)),
  laws=laws("content_independent rows_stochastic", weights_separate=lambda x: {"grid": x.shape[1:3]}),
  theirs={"jax.nn.softmax": quadratic, "jax.numpy.kron": outer},
  ours={
    "attend": lambda x: ops.attend(*(jnp.zeros((1, x.shape[1] * x.shape[2], 1, 1)),) * 3, bias=jnp.log(outer(x)))[1]
  },
  mutants={
    "weights_separate: ellipses": lambda x: quadratic(x, skew=0.5),
    "content_independent: content": lambda x: quadratic(x, content=0.01),
    "rows_stochastic: not normalised": lambda x: 0.9 * quadratic(x),
  },
)
AGREEING = Group(
  arrays=(draw((2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 4)),) * 2,
  laws=laws(agrees={"reference": attention, "argnums": (0, 1, 2)}),
  ours={"attend": lambda q, k, v: ops.attend(q, k, v)[0]},
  theirs=PEERS,
  mutants={
    "agrees: no scale": lambda q, k, v: attention(q, k, v, scale=1),
    "agrees: keys in place of values": lambda q, k, v: attention(q, v, k),
  },
)
