"""Groups of normalisations, parameters, gates, dropout, tables of positions, matrices and functions of numbers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn import equivalence, layers, ops
from tests.properties.attention import attention, fixed, gram, places, projected, weights
from tests.properties.group import Group, draw
from tests.properties.images import images, windows

NORMALISED = Group(
  arrays=(draw((2, 5, 7)), draw((3, 3, 8), seed=1)),
  laws={
    "scale_invariant": {"tolerance": 1e-4},
    "shift_invariant": {},
    "standardised": {},
    "odd": {},
    "batch_independent": {},
    "pointwise": {"axes": (1,)},
  },
  ours={
    "LayerNorm": lambda x: layers.LayerNorm(1e-5).apply(
      layers.LayerNorm().init(jax.random.key(0), x, train=False), x, train=False
    )
  },
  theirs={
    "flax.linen.LayerNorm": lambda x: nn.LayerNorm(epsilon=1e-5, use_scale=False, use_bias=False).apply({}, x),
    "jax.nn.standardize": lambda x: jax.nn.standardize(x, -1, epsilon=1e-5),
  },
  mutants={
    "a large epsilon": ("scale_invariant", lambda x: jax.nn.standardize(x, -1, epsilon=0.1)),
    "mean not subtracted": ("shift_invariant", lambda x: x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)),
    "variance of n - 1": (
      "standardised",
      lambda x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True, ddof=1) + 1e-5),
    ),
    "absolute value": ("odd", lambda x: jnp.abs(jax.nn.standardize(x, -1, epsilon=1e-5))),
    "over the batch": ("batch_independent", lambda x: jax.nn.standardize(x, 0, epsilon=1e-5)),
    "over the tokens": ("pointwise", lambda x: jax.nn.standardize(x, (-2, -1), epsilon=1e-5)),
  },
)

IMAGE_AXES = {"axes": (0, 1, 2)}
OVER_BATCH = Group(
  arrays=(draw((2, 5, 3, 4)), draw((3, 3, 7, 2), seed=1)),
  laws={
    "standardised": IMAGE_AXES,
    "shift_invariant": IMAGE_AXES,
    "scale_invariant": {**IMAGE_AXES, "tolerance": 1e-4},
  },
  ours={
    "BatchNorm": lambda x: layers.BatchNorm().apply(
      fixed(layers.BatchNorm(), x, train=True, scale=0), x, train=True, mutable=["batch_stats"]
    )[0]
  },
  theirs={
    "flax.linen.BatchNorm": lambda x: nn.BatchNorm(False).apply(
      fixed(nn.BatchNorm(False), x, scale=0), x, mutable=["batch_stats"]
    )[0],
    "jax.nn.standardize": lambda x: jax.nn.standardize(x, (0, 1, 2)),
  },
  mutants={
    "running averages": (
      "standardised",
      lambda x: nn.BatchNorm(True).apply(nn.BatchNorm(True).init(jax.random.key(0), x), x),
    ),
    "statistics of the first image": (
      "standardised",
      lambda x: (x - x[:1].mean((1, 2), keepdims=True)) / x[:1].std((1, 2), keepdims=True),
    ),
  },
)

X = draw((2, 5, 4))[0]
Y = draw((3, 7, 4), seed=1)[0]
DENSE = nn.Dense(3)
MHA = nn.MultiHeadDotProductAttention(2)
CONV = nn.Conv(3, (3,))


def trees(module, *inputs):
  return tuple((fixed(module, x), x) for x in inputs)


def without(name):
  """The parameter has no influence."""

  def apply(variables, x):
    variables = jax.tree_util.tree_map_with_path(
      lambda path, a: 0 * a if name in jax.tree_util.keystr(path) else a, variables
    )
    return MHA.apply(variables, x)

  return apply


MHA_PARAMETERS = Group(
  arrays=trees(MHA, X, Y),
  laws={"every_parameter_used": {"allow": ("key/bias",)}, "gradient_is_slope": {}},
  theirs={
    "flax.linen.MultiHeadDotProductAttention": MHA.apply,
    "jitted": jax.jit(MHA.apply),
  },
  mutants={
    "queries left out": ("every_parameter_used", without("query")),
    "output bias forgotten": ("every_parameter_used", without("['out']['bias']")),
    "values behind a stop_gradient": (
      "every_parameter_used",
      lambda v, x: MHA.apply({"params": {**v["params"], "value": jax.lax.stop_gradient(v["params"]["value"])}}, x),
    ),
  },
)
DENSE_PARAMETERS = Group(
  arrays=trees(DENSE, X, Y),
  laws={"every_parameter_used": {}, "gradient_is_slope": {}, "checkpoint_agrees": {}},
  theirs={"flax.linen.Dense": DENSE.apply},
  mutants={
    "bias forgotten": ("every_parameter_used", lambda v, x: jnp.einsum("bnc,co->bno", x, v["params"]["kernel"])),
  },
)
CONV_PARAMETERS = Group(
  arrays=trees(CONV, X, Y),
  laws={"every_parameter_used": {}, "gradient_is_slope": {}},
  theirs={"flax.linen.Conv": CONV.apply},
  mutants={
    "norm after the bias": ("every_parameter_used", lambda v, x: jax.nn.standardize(CONV.apply(v, x), 1)),
  },
)
RELATIVE = layers.RelativeAttention(2)
OUR_PARAMETERS = Group(
  arrays=tuple((fixed(RELATIVE, x), x) for x in (draw((2, 3, 2, 4))[0], draw((1, 2, 5, 4), seed=1)[0])),
  laws={"every_parameter_used": {"allow": ("key/bias",)}, "gradient_is_slope": {}},
  ours={"RelativeAttention": jax.jit(RELATIVE.apply)},
  theirs={},
)

REMAT = Group(
  arrays=((DENSE.init(jax.random.key(0), X), X), (DENSE.init(jax.random.key(1), Y), Y)),
  laws={"checkpoint_agrees": {}, "jvp_is_vjp": {}},
  theirs={"flax.linen.Dense": DENSE.apply, "jitted": jax.jit(DENSE.apply)},
)

SAGAN = layers.SAGANAttention(reduction=1, value_reduction=1)


def sagan_parameters(w, gate):
  kernels = {name: {"kernel": w[:, None]} for name in ("query", "key", "value")}
  return {**kernels, "out": {"kernel": w[None]}, "gamma": gate[0]}


GATED = Group(
  arrays=(draw((2, 5, 4), (4, 4), (1,)), draw((1, 3, 6), (6, 6), (1,), seed=1)),
  laws={"zero_branch_is_identity": {}, "only_gate_learns": {"argnums": 1}},
  ours={
    "SAGANAttention": lambda x, w, gate: SAGAN.apply({"params": sagan_parameters(w, gate)}, x[:, None])[:, 0],
    "LayerScale": lambda x, w, gate: (
      x
      + layers.LayerScale(1.0).apply(
        {"params": {"scale": jnp.broadcast_to(gate, w.shape[:1])}}, jnp.einsum("bnc,cd->bnd", x, w)
      )
    ),
  },
  theirs={
    "dense": lambda x, w, gate: x + gate[None, None] * jnp.einsum("bnc,cd->bnd", x, w),
    "attention": lambda x, w, gate: (
      x + gate[None, None] * jax.nn.dot_product_attention(*(jnp.einsum("bnc,cd->bnd", x, w)[:, :, None],) * 3)[:, :, 0]
    ),
    "flax.linen.Dense": lambda x, w, gate: (
      x + gate[None, None] * nn.Dense(w.shape[1], use_bias=False).apply({"params": {"kernel": w}}, x)
    ),
  },
  mutants={
    "normalised after the sum": (
      "zero_branch_is_identity",
      lambda x, w, gate: jax.nn.standardize(x + gate[None, None] * jnp.einsum("bnc,cd->bnd", x, w)),
    ),
    "no shortcut": ("zero_branch_is_identity", lambda x, w, gate: gate[None, None] * jnp.einsum("bnc,cd->bnd", x, w)),
    "gate starts at one": (
      "zero_branch_is_identity",
      lambda x, w, gate: x + (1 + gate[None, None]) * jnp.einsum("bnc,cd->bnd", x, w),
    ),
    "gate squared": (
      "only_gate_learns",
      lambda x, w, gate: x + gate[None, None] ** 2 * jnp.einsum("bnc,cd->bnd", x, w),
    ),
  },
)


def content(x):
  return projected(x)


def positional(x):
  return projected(
    x, core=lambda q, k, v, *_: attention(0 * q, k, v, -jnp.square(places(x.shape[1], 2, 4) - places(x.shape[1], 3, 4)))
  )


def gated(x, gate, mix=jax.nn.sigmoid):
  g = mix(gate)[None, None]
  return (1 - g) * content(x) + g * positional(x)


def gated_weights(x, gate):
  def core(q, k, v, *_):
    g = jax.nn.sigmoid(gate)[None, None, None]
    position = -jnp.square(places(x.shape[1], 2, 4) - places(x.shape[1], 3, 4))
    w = (1 - g) * weights(q, k) + g * weights(0 * q, k, position)
    return jnp.einsum("bhqk,bkhe->bqhe", w, v)

  return projected(x, core=core)


GATES = Group(
  arrays=((X, *draw((1,))), (Y, *draw((1,), seed=2))),
  laws={"gate_limits": {"opened": positional, "closed": content}},
  theirs={"jax.nn.sigmoid of outputs": gated, "jax.nn.sigmoid of weights": gated_weights},
  mutants={
    "gate the other way round": ("gate_limits", lambda x, gate: gated(x, -gate)),
    "no sigmoid": ("gate_limits", lambda x, gate: gated(x, gate, lambda g: g)),
    "half open at most": ("gate_limits", lambda x, gate: gated(x, gate, lambda g: 0.5 * jax.nn.sigmoid(g))),
  },
)


GPSA = layers.GatedPositionalAttention(2)
GPSA_VARIABLES = fixed(GPSA, X[:, None])


def gpsa(x, gate):
  return GPSA.apply({"params": {**GPSA_VARIABLES["params"], "gate": gate}}, x)


def gpsa_branch(x, position):
  """One of its two attentions, written out: by position, or by content."""
  parameters = GPSA_VARIABLES["params"]
  (b, h, w, c), (row, column) = x.shape, np.divmod(np.arange(x.shape[1] * x.shape[2]), x.shape[2])
  rows, columns = (jnp.asarray(place[None] - place[:, None], x.dtype) for place in (row, column))
  query, key, value = (
    jnp.einsum("bnc,chd->bnhd", x.reshape(b, h * w, c), parameters[name]["kernel"], precision="highest")
    for name in ("query", "key", "value")
  )
  logits = jnp.einsum("hr,rqk->hqk", parameters["position"], jnp.stack([rows, columns, rows**2 + columns**2]))
  attended = attention(0 * query, key, value, logits[None]) if position else attention(query, key, value)
  out = jnp.einsum("bnhd,hdo->bno", attended, parameters["out"]["kernel"], precision="highest")
  return out.reshape(x.shape) + parameters["out"]["bias"][None, None, None]


OUR_GATES = Group(
  arrays=((X[:, None], *draw((2,))), (Y.reshape(1, 3, 7, 4), *draw((2,), seed=2))),
  laws={"gate_limits": {"opened": lambda x: gpsa_branch(x, True), "closed": lambda x: gpsa_branch(x, False)}},
  ours={"GatedPositionalAttention": gpsa},
  theirs={},
  mutants={"one head stays half open": ("gate_limits", lambda x, gate: gpsa(x, gate * jnp.asarray([1, 0])))},
)


def dropout(x, key, rate=0.4, scale=None):
  keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate if scale is None else scale), 0)


DROPPED = Group(
  arrays=(draw((2, 5, 4)), draw((3, 7), seed=1)),
  laws={"key_decides": {}, "expectation": {"evaluation": lambda x: x}},
  ours={"StochasticDepth": lambda x, key: layers.StochasticDepth(0.4).apply({}, x, train=True, rngs={"dropout": key})},
  theirs={
    "flax.linen.Dropout": lambda x, key: nn.Dropout(0.4, deterministic=False).apply({}, x, rngs={"dropout": key}),
    "jax.random.bernoulli": lambda x, key: dropout(x, key),
    "noise": lambda x, key: x + jax.random.normal(key, x.shape),
  },
  mutants={
    "a key of its own": ("key_decides", lambda x, key: x),
    "not divided by the rate kept": ("expectation", lambda x, key: dropout(x, key, scale=1)),
    "divided by a rate a little too large": ("expectation", lambda x, key: dropout(x, key, scale=0.63)),
    "divided by the rate dropped": ("expectation", lambda x, key: dropout(x, key, scale=0.4)),
    "keeps too few": ("expectation", lambda x, key: dropout(x, key, rate=0.45, scale=0.6)),
  },
)
EVALUATED = Group(
  arrays=DROPPED.arrays,
  laws={"key_ignored": {}},
  ours={"StochasticDepth": lambda x, key: layers.StochasticDepth(0.4).apply({}, x, train=False, rngs={"dropout": key})},
  theirs={
    "flax.linen.Dropout": lambda x, key: nn.Dropout(0.4, deterministic=True).apply({}, x, rngs={"dropout": key}),
    "rate 0": lambda x, key: dropout(x, key, rate=0.0),
  },
  mutants={
    "still drops": ("key_ignored", dropout),
    "a little noise": ("key_ignored", lambda x, key: x + 1e-6 * jax.random.normal(key, x.shape)),
  },
)


def gather(table, reverse=False, shift=0):
  n = (table.shape[-1] + 1) // 2
  delta = np.arange(n)[None] - np.arange(n)[:, None]
  return table[..., (-delta if reverse else delta) + n - 1 + shift]


def diagonals(table):
  n = (table.shape[-1] + 1) // 2
  return jax.vmap(lambda t: jax.scipy.linalg.toeplitz(t[n - 1 :: -1], t[n - 1 :]))(table)


LINES = Group(
  arrays=(draw((2, 9)), draw((3, 5), seed=1)),
  laws={
    "shift_sign": {},
    "block_toeplitz": lambda table: {"grid": ((table.shape[-1] + 1) // 2,)},
  },
  ours={"relative_bias": lambda table: ops.relative_bias(table[:, None])},
  theirs={"jax.numpy, gathered": gather, "jax.scipy.linalg.toeplitz": diagonals},
  mutants={
    "query - key": ("shift_sign", lambda table: gather(table, reverse=True)),
    "one entry off": ("shift_sign", lambda table: gather(jnp.roll(table, 1, -1))),
    "distances alone": ("shift_sign", lambda table: gather(jnp.maximum(table, table[..., ::-1]))),
    "absolute positions": (
      "block_toeplitz",
      lambda table: gather(table) + 0.01 * places((table.shape[-1] + 1) // 2, 1, 3),
    ),
  },
)

MAPS = Group(
  arrays=(draw((2, 5, 7)), draw((1, 3, 9), seed=1)),
  laws={
    "block_toeplitz": lambda table: {"grid": tuple((size + 1) // 2 for size in table.shape[1:])},
  },
  ours={
    "relative_bias_gather": ops.relative_bias_gather,
    "relative_bias_one_hot": ops.relative_bias_one_hot,
    "relative_bias": ops.relative_bias,
  },
  theirs={},
  mutants={},
)


def by_shift(table):
  """[h, hw, hw] from rows and columns of their own."""
  h, w = ((size + 1) // 2 for size in table.shape[1:])
  rows, columns = gather(table.sum(2)), gather(table.sum(1))
  return (rows[:, :, None, :, None] + columns[:, None, :, None, :]).reshape(-1, h * w, h * w)


SUMS = Group(
  arrays=MAPS.arrays,
  laws=MAPS.laws,
  ours={"relative_bias": ops.relative_bias},
  theirs={
    "jax.numpy, rows + columns": by_shift,
    "jax.numpy, gathered": lambda table: table[
      :,
      ops.relative_offsets(*((s + 1) // 2 for s in table.shape[1:]))[..., 0],
      ops.relative_offsets(*((s + 1) // 2 for s in table.shape[1:]))[..., 1],
    ],
  },
  mutants={
    "a row's own number": (
      "block_toeplitz",
      lambda table: by_shift(table) + 0.01 * places(by_shift(table).shape[1], 1, 3),
    ),
    "rows and columns swapped": ("block_toeplitz", lambda table: ops.relative_bias(jnp.swapaxes(table, 1, 2))),
  },
)


def clipped(table, n=9, reach=None):
  k = (table.shape[0] - 1) // 2
  delta = np.arange(n)[None] - np.arange(n)[:, None]
  return table[np.clip(delta, -k if reach is None else -reach, k if reach is None else reach) + k]


def clipped_by_logits(table, n):
  """Queries that read one component each."""
  units = jnp.eye(table.shape[1], dtype=table.dtype)
  query = jnp.broadcast_to(units[:, None, None], (len(units), n, 1, len(units)))
  return jnp.moveaxis(ops.clipped_logits(query, table)[:, 0], 0, -1)


CLIPPED = Group(
  arrays=(draw((5, 3)), draw((7, 2), seed=1)),
  laws={
    "clipped": lambda table: {"distance": (len(table) - 1) // 2, "axes": (0, 1)},
  },
  ours={"clipped_logits": lambda table: clipped_by_logits(table, 9)},
  theirs={
    "jax.numpy, gathered": clipped,
    "jax.nn.one_hot": lambda table: jnp.einsum(
      "qks,sd->qkd", jax.nn.one_hot(clipped(jnp.arange(len(table))), len(table)), table, precision="highest"
    ),
  },
  mutants={
    "clipped one too early": ("clipped", lambda table: clipped(table, reach=(len(table) - 3) // 2)),
    "clipped one too late": ("clipped", lambda table: clipped(jnp.concatenate([table[:1] + 1, table, table[-1:] + 1]))),
    "wraps around": ("clipped", lambda table: table[(np.arange(9)[None] - np.arange(9)[:, None]) % len(table)]),
    "clipped on one side": ("clipped", lambda table: clipped(table).at[0, -1].set(table[0])),
  },
)

SHORT = Group(
  arrays=(draw((11, 3)), draw((9, 2), seed=1)),
  laws={"only_reached_shifts_learn": {"length": 4}},
  ours={"clipped_logits": lambda table: clipped_by_logits(table, 4)},
  theirs={
    "jax.numpy, gathered": lambda table: clipped(table, n=4),
    "dynamic_slice": lambda table: jnp.stack(
      [jax.lax.dynamic_slice_in_dim(table, len(table) // 2 - q, 4) for q in range(4)]
    ),
  },
  mutants={
    "table centred": ("only_reached_shifts_learn", lambda table: clipped(table - table.mean(0, keepdims=True), n=4)),
    "clipped one early": ("only_reached_shifts_learn", lambda table: clipped(table, n=4, reach=2)),
    "one too far": ("only_reached_shifts_learn", lambda table: clipped(table, n=5)),
  },
)

NEW = (5, 3)


def corners(table, rows=9, columns=5):
  """Interpolates with aligned corners."""
  grid = jnp.meshgrid(
    jnp.linspace(0, table.shape[1] - 1, rows), jnp.linspace(0, table.shape[2] - 1, columns), indexing="ij"
  )
  return jax.vmap(lambda t: jax.scipy.ndimage.map_coordinates(t, grid, order=1, mode="nearest"))(table)


def by_interp(table, rows=9, columns=5):
  def line(values, size):
    return jnp.interp(jnp.linspace(0, len(values) - 1, size), jnp.arange(float(len(values))), values)

  tall = jax.vmap(jax.vmap(lambda v: line(v, rows), 1, 1))(table)
  return jax.vmap(jax.vmap(lambda v: line(v, columns)))(tall)


TABLES = (draw((2, 5, 7)), draw((3, 3, 9), seed=1))
RESIZED = Group(
  arrays=TABLES,
  laws={"resize_keeps_constants": {}, "resize_keeps_centre": {}, "flip_equivariant": {"axes": (1,)}},
  ours={"bilinear": lambda t: ops.resize_table(t, NEW), "timm": lambda t: ops.resize_table(t, NEW, "timm")},
  theirs={
    "jax.image.resize": lambda t: jax.image.resize(t, (t.shape[0], 9, 5), "linear", antialias=False),
    "map_coordinates": corners,
    "jax.numpy.interp": by_interp,
  },
  mutants={
    "divided by the size": ("resize_keeps_constants", lambda t: corners(t) * t.shape[1] / 9),
    "zeros beyond": ("resize_keeps_constants", lambda t: jnp.pad(t, [(0, 0), (2, 2), (2, 2)])),
    "grows at the end": ("resize_keeps_centre", lambda t: jnp.pad(t, [(0, 0), (0, 4), (0, 4)], mode="edge")),
    "one end left out": ("flip_equivariant", lambda t: corners(t[:, 1:])),
  },
)
SAME_SIZE = Group(
  arrays=TABLES,
  laws={"resize_to_same_size": {}},
  ours={"bilinear": lambda t: ops.resize_table(t, ((t.shape[1] + 1) // 2, (t.shape[2] + 1) // 2))},
  theirs={
    "jax.image.resize": lambda t: jax.image.resize(t, t.shape, "linear"),
    "map_coordinates": lambda t: corners(t, *t.shape[1:]),
  },
  mutants={
    "by way of a larger one": (
      "resize_to_same_size",
      lambda t: jax.image.resize(jax.image.resize(t, (len(t), 9, 9), "linear"), t.shape, "linear"),
    ),
    "both axes swapped": ("resize_to_same_size", lambda t: t[:, ::-1]),
  },
)
RAMPS = Group(
  arrays=TABLES,
  laws={"resize_keeps_ramps": {}, "resize_keeps_constants": {}},
  ours={"max_pool, every second entry": lambda t: ops.max_pool(t[..., None], window=1, stride=2)[..., 0]},
  theirs={"map_coordinates": corners, "jax.numpy.interp": by_interp},
  mutants={
    "half-pixel": ("resize_keeps_ramps", lambda t: jax.image.resize(t, (t.shape[0], 9, 5), "linear")),
    "nearest": ("resize_keeps_ramps", lambda t: jax.image.resize(t, (t.shape[0], 9, 11), "nearest")),
  },
)

NUMBERS = Group(
  arrays=(draw((3, 5)), draw((2, 7), seed=1)),
  laws={"monotone": {}, "odd": {}},
  ours={"log_shifts, interpolated": lambda x: jnp.interp(x, jnp.arange(-99.0, 100), ops.log_shifts(100, 1)[:, 0, 0])},
  theirs={
    "log": lambda x: jnp.sign(x) * jnp.log1p(jnp.abs(x)),
    "jax.numpy.tanh": jnp.tanh,
    "jax.numpy.arcsinh": jnp.arcsinh,
  },
  mutants={
    "absolute value": ("odd", lambda x: jnp.log1p(jnp.exp(x))),
    "falls where it is large": (
      "monotone",
      lambda x: jnp.sign(x) * jnp.where(jnp.abs(x) > 4, 4.4 - 0.1 * jnp.abs(x), jnp.abs(x)),
    ),
    "sine": ("monotone", lambda x: jnp.sin(3 * x)),
    "turned": ("monotone", lambda x: -x),
    "moved": ("odd", lambda x: x + 0.01),
  },
)
POSITIVE = Group(
  arrays=(draw((2, 5, 7, 3)), draw((1, 4, 3, 2), seed=1)),
  laws={"homogeneous": {"positive": True}, "monotone": {}},
  ours={"max_pool": lambda x: ops.max_pool(x, window=3, stride=2)},
  theirs={"jax.nn.relu": jax.nn.relu, "flax.linen.max_pool": lambda x: nn.max_pool(x, (3, 3))},
  mutants={
    "relu6": ("homogeneous", jax.nn.relu6),
    "gelu": ("homogeneous", jax.nn.gelu),
    "softplus": ("homogeneous", jax.nn.softplus),
  },
)


PATCHES = Group(
  arrays=(draw((2, 6, 9, 4)), draw((1, 9, 3, 5), seed=1)),
  laws={"inverse": {"inverse": lambda parts: equivalence.to_pixels(parts, 3)}},
  ours={"to_patches": lambda x: equivalence.to_patches(x, 3)},
  theirs={},
)
DEPTH = Group(
  arrays=(draw((2, 6, 9, 4)), draw((1, 9, 3, 5), seed=1)),
  laws={"inverse": lambda x: {"inverse": lambda parts: images(parts, 3, x.shape)}},
  ours={"window_partition": lambda x: ops.window_partition(x, (3, 3))},
  theirs={
    "windows": lambda x: windows(x, 3),
    "windows of einops's order": lambda x: (
      x.reshape(x.shape[0], x.shape[1] // 3, 3, x.shape[2] // 3, 3, -1).swapaxes(2, 3).reshape(-1, 9, x.shape[-1])
    ),
  },
  mutants={
    "rows and columns swapped": (
      "inverse",
      lambda x: windows(x, 3).reshape(-1, 3, 3, x.shape[-1]).swapaxes(1, 2).reshape(-1, 9, x.shape[-1]),
    ),
    "reshaped alone": ("inverse", lambda x: x.reshape(-1, 9, x.shape[-1])),
    "through bfloat16": ("inverse", lambda x: windows(x, 3).astype(jnp.bfloat16)),
  },
)
PRODUCT = Group(
  arrays=(draw((5, 2), (2, 7)), draw((2, 6, 2), (2, 2, 5), seed=1)),
  laws={"rank_at_most": {"rank": 2}},
  ours={"logits of a head": lambda a, b: logits_of_a_head(a, b)},
  theirs={"jax.numpy.matmul": jnp.matmul, "jax.numpy.einsum": lambda a, b: jnp.einsum("...ij,...jk->...ik", a, b)},
  mutants={
    "activation": ("rank_at_most", lambda a, b: jnp.tanh(jnp.matmul(a, b))),
    "diagonal added": ("rank_at_most", lambda a, b: jnp.matmul(a, b) + 0.1 * jnp.eye(5, 7)),
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
  laws={"spectral_norm_one": {}},
  ours={"TableAttention on a torus": lambda w: weights_of_table(w, "CIRCULAR")},
  theirs={
    "power iterations": jax.jit(lambda w: spectral(w, 60)),
    "jax.numpy.linalg.norm": lambda w: w / jnp.linalg.norm(w, 2),
  },
  mutants={
    "longest row": ("spectral_norm_one", lambda w: w / jnp.linalg.norm(w, axis=1).max()),
    "Frobenius": ("spectral_norm_one", lambda w: w / jnp.linalg.norm(w)),
    "repeated border": ("spectral_norm_one", lambda w: weights_of_table(w, "EDGE")),
  },
)


def additive(q, k):
  return jnp.tanh(q[..., :, None, :] + k[..., None, :, :]).sum(-1)


def cosine(q, k):
  q, k = (a / jnp.linalg.norm(a, axis=-1, keepdims=True) for a in (q, k))
  return 4 * jnp.einsum("bqd,bkd->bqk", q, k)


BOUNDED = Group(
  arrays=(draw((2, 3, 4), (2, 5, 4)), draw((1, 4, 4), (1, 3, 4), seed=1)),
  laws={"bounded": {"bound": 4.0}},
  ours={
    "additive": lambda q, k: ops.additive(q[:, :, None], k[:, :, None], *(jnp.eye(4)[None],) * 2, jnp.ones((1, 4)))[
      :, 0
    ],
    "cosine": lambda q, k: 4 * ops.cosine(q[:, :, None], k[:, :, None])[:, 0],
  },
  theirs={"additive": additive, "cosine": cosine},
  mutants={
    "dot product": ("bounded", lambda q, k: jnp.einsum("bqd,bkd->bqk", q, k)),
    "scaled": ("bounded", lambda q, k: 1.5 * additive(q, k)),
  },
)
COSINES = Group(
  arrays=BOUNDED.arrays,
  laws={"scale_invariant": {"argnums": (0, 1)}, "bounded": {"bound": 4.0}},
  ours={"cosine": BOUNDED.ours["cosine"]},
  theirs={
    "jax.numpy.linalg.norm": cosine,
    "rsqrt": lambda q, k: (
      4 * jnp.einsum("bqd,bkd->bqk", *(a * jax.lax.rsqrt((a**2).sum(-1, keepdims=True)) for a in (q, k)))
    ),
  },
  mutants={
    "keys alone": ("scale_invariant", lambda q, k: jnp.tanh(cosine(q, k) * jnp.linalg.norm(q, axis=-1, keepdims=True)))
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
  laws={
    "weights_separate": lambda x: {"grid": x.shape[1:3]},
    "content_independent": {},
    "rows_stochastic": {},
  },
  theirs={"jax.nn.softmax": quadratic, "jax.numpy.kron": outer},
  ours={
    "attend": lambda x: ops.attend(*(jnp.zeros((1, x.shape[1] * x.shape[2], 1, 1)),) * 3, bias=jnp.log(outer(x)))[1]
  },
  mutants={
    "ellipses": ("weights_separate", lambda x: quadratic(x, skew=0.5)),
    "content": ("content_independent", lambda x: quadratic(x, content=0.01)),
    "not normalised": ("rows_stochastic", lambda x: 0.9 * quadratic(x)),
  },
)
AGREEING = Group(
  arrays=(draw((2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 4)),) * 2,
  laws={"agrees": {"reference": attention, "argnums": (0, 1, 2)}},
  ours={"attend": lambda q, k, v: ops.attend(q, k, v)[0]},
  theirs={
    "jax.nn.dot_product_attention": jax.nn.dot_product_attention,
    "flax.linen.dot_product_attention": nn.dot_product_attention,
  },
  mutants={
    "no scale": ("agrees", lambda q, k, v: attention(q, k, v, scale=1)),
    "keys in place of values": ("agrees", lambda q, k, v: attention(q, v, k)),
  },
)
GROUPS = {name.lower(): group for name, group in list(globals().items()) if isinstance(group, Group)}
