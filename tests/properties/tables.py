"""Groups of tables of positions: what reads them, and what changes their size."""

import jax
import jax.numpy as jnp
import numpy as np

from convattn import ops
from tests.properties.attention import places
from tests.properties.group import Group, draw, laws


def gather(table, reverse=False, shift=0):
  n = (table.shape[-1] + 1) // 2
  delta = np.arange(n)[None] - np.arange(n)[:, None]
  return table[..., (-delta if reverse else delta) + n - 1 + shift]


def diagonals(table):
  n = (table.shape[-1] + 1) // 2
  return jax.vmap(lambda t: jax.scipy.linalg.toeplitz(t[n - 1 :: -1], t[n - 1 :]))(table)


LINES = Group(
  arrays=(draw((2, 9)), draw((3, 5), seed=1)),
  laws=laws("shift_sign", block_toeplitz=lambda table: {"grid": ((table.shape[-1] + 1) // 2,)}),
  ours={"relative_bias": lambda table: ops.relative_bias(table[:, None])},
  theirs={"jax.numpy, gathered": gather, "jax.scipy.linalg.toeplitz": diagonals},
  mutants={
    "shift_sign: query - key": lambda table: gather(table, reverse=True),
    "shift_sign: one entry off": lambda table: gather(jnp.roll(table, 1, -1)),
    "shift_sign: distances alone": lambda table: gather(jnp.maximum(table, table[..., ::-1])),
    "block_toeplitz: absolute positions": lambda table: gather(table) + 0.01 * places((table.shape[-1] + 1) // 2, 1, 3),
  },
)


def by_shift(table):
  """[h, hw, hw] from rows and columns of their own."""
  h, w = ((size + 1) // 2 for size in table.shape[1:])
  rows, columns = gather(table.sum(2)), gather(table.sum(1))
  return (rows[:, :, None, :, None] + columns[:, None, :, None, :]).reshape(-1, h * w, h * w)


SUMS = Group(
  arrays=(draw((2, 5, 7)), draw((1, 3, 9), seed=1)),
  laws=laws(block_toeplitz=lambda table: {"grid": tuple((size + 1) // 2 for size in table.shape[1:])}),
  ours={"relative_bias": ops.relative_bias, "relative_bias_one_hot": ops.relative_bias_one_hot},
  theirs={"jax.numpy, rows + columns": by_shift, "jax.numpy, gathered": ops.relative_bias_gather},
  mutants={
    "block_toeplitz: a row's own number": lambda table: by_shift(table) + 0.01 * places(by_shift(table).shape[1], 1, 3),
    "block_toeplitz: rows and columns swapped": lambda table: ops.relative_bias(jnp.swapaxes(table, 1, 2)),
  },
)


def gather_grid(table, turn=(1, 1), reach=None, grid=None):
  """[..., hw, hw]: rows and columns by key - query (1) or query - key (-1), clipped at a reach."""
  h, w = ((size + 1) // 2 for size in table.shape[-2:]) if grid is None else grid
  index = []
  for place, size, sign in zip(np.divmod(np.arange(h * w), w), table.shape[-2:], turn, strict=True):
    middle = size // 2
    index.append(
      np.clip(sign * (place[None] - place[:, None]), *((-middle, middle) if reach is None else reach)) + middle
    )
  return table[(..., *index)]


GRIDDED = Group(
  arrays=(draw((2, 5, 7)), draw((1, 3, 9), seed=1)),
  laws=laws(
    "shift_sign",
    only_reached_shifts_learn=lambda table: {
      "axis": (-2, -1),
      "length": tuple((size + 1) // 2 for size in table.shape[1:]),
    },
  ),
  ours={"relative_bias": ops.relative_bias, "relative_bias_one_hot": ops.relative_bias_one_hot},
  theirs={
    "jax.numpy, gathered": gather_grid,
    "convattn's gather of one head": lambda table: jnp.stack([gather_grid(each) for each in table]),
  },
  mutants={
    "shift_sign: query - key on both axes of a grid": lambda table: gather_grid(table, (-1, -1)),
    "shift_sign: query - key along the columns": lambda table: gather_grid(table, (1, -1)),
    "shift_sign: query - key along the rows": lambda table: gather_grid(table, (-1, 1)),
    "only_reached_shifts_learn: a corner unread": lambda table: gather_grid(table.at[:, 0, 0].set(0)),
  },
)
CLIPPED_GRID = Group(
  arrays=(draw((2, 5, 5)), draw((1, 5, 5), seed=1)),
  laws=laws(
    clipped={"distance": 2, "grid": (4, 6)},
    shift_sign={"grid": (4, 6)},
    block_toeplitz={"grid": (4, 6)},
  ),
  theirs={"jax.numpy, gathered": lambda table: gather_grid(table, grid=(4, 6))},
  mutants={
    "clipped: a grid clipped one too early": lambda table: gather_grid(table, reach=(-1, 1), grid=(4, 6)),
    "clipped: a grid clipped on one side": lambda table: gather_grid(table, grid=(4, 6)).at[:, 0, 23].set(0),
    "shift_sign: a clipped grid by query - key": lambda table: gather_grid(table, (-1, -1), grid=(4, 6)),
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
  laws=laws(clipped=lambda table: {"distance": (len(table) - 1) // 2, "axes": (0, 1)}),
  ours={"clipped_logits": lambda table: clipped_by_logits(table, 9)},
  theirs={
    "jax.numpy, gathered": clipped,
    "jax.nn.one_hot": lambda table: jnp.einsum(
      "qks,sd->qkd", jax.nn.one_hot(clipped(jnp.arange(len(table))), len(table)), table, precision="highest"
    ),
  },
  mutants={
    "clipped: clipped one too early": lambda table: clipped(table, reach=(len(table) - 3) // 2),
    "clipped: clipped one too late": lambda table: clipped(jnp.concatenate([table[:1] + 1, table, table[-1:] + 1])),
    "clipped: wraps around": lambda table: table[(np.arange(9)[None] - np.arange(9)[:, None]) % len(table)],
    "clipped: clipped on one side": lambda table: clipped(table).at[0, -1].set(table[0]),
  },
)

SHORT = Group(
  arrays=(draw((11, 3)), draw((9, 2), seed=1)),
  laws=laws(only_reached_shifts_learn={"length": 4}),
  ours={"clipped_logits": lambda table: clipped_by_logits(table, 4)},
  theirs={
    "jax.numpy, gathered": lambda table: clipped(table, n=4),
    "dynamic_slice": lambda table: jnp.stack(
      [jax.lax.dynamic_slice_in_dim(table, len(table) // 2 - q, 4) for q in range(4)]
    ),
  },
  mutants={
    "only_reached_shifts_learn: table centred": lambda table: clipped(table - table.mean(0, keepdims=True), n=4),
    "only_reached_shifts_learn: clipped one early": lambda table: clipped(table, n=4, reach=2),
    "only_reached_shifts_learn: one too far": lambda table: clipped(table, n=5),
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
  laws=laws("resize_keeps_constants resize_keeps_centre", flip_equivariant={"axes": (1,)}),
  ours={"bilinear": lambda t: ops.resize_table(t, NEW), "timm": lambda t: ops.resize_table(t, NEW, "timm")},
  theirs={
    "jax.image.resize": lambda t: jax.image.resize(t, (t.shape[0], 9, 5), "linear", antialias=False),
    "map_coordinates": corners,
    "jax.numpy.interp": by_interp,
  },
  mutants={
    "resize_keeps_constants: divided by the size": lambda t: corners(t) * t.shape[1] / 9,
    "resize_keeps_constants: zeros beyond": lambda t: jnp.pad(t, [(0, 0), (2, 2), (2, 2)]),
    "resize_keeps_centre: grows at the end": lambda t: jnp.pad(t, [(0, 0), (0, 4), (0, 4)], mode="edge"),
    "flip_equivariant: one end left out": lambda t: corners(t[:, 1:]),
  },
)
SAME_SIZE = Group(
  arrays=TABLES,
  laws=laws("resize_to_same_size"),
  ours={"bilinear": lambda t: ops.resize_table(t, ((t.shape[1] + 1) // 2, (t.shape[2] + 1) // 2))},
  theirs={
    "jax.image.resize": lambda t: jax.image.resize(t, t.shape, "linear"),
    "map_coordinates": lambda t: corners(t, *t.shape[1:]),
  },
  mutants={
    "resize_to_same_size: by way of a larger one": lambda t: jax.image.resize(
      jax.image.resize(t, (len(t), 9, 9), "linear"), t.shape, "linear"
    ),
    "resize_to_same_size: both axes swapped": lambda t: t[:, ::-1],
  },
)
RAMPS = Group(
  arrays=TABLES,
  laws=laws("resize_keeps_ramps resize_keeps_constants"),
  ours={"max_pool, every second entry": lambda t: ops.max_pool(t[..., None], window=1, stride=2)[..., 0]},
  theirs={"map_coordinates": corners, "jax.numpy.interp": by_interp},
  mutants={
    "resize_keeps_ramps: half-pixel": lambda t: jax.image.resize(t, (t.shape[0], 9, 5), "linear"),
    "resize_keeps_ramps: nearest": lambda t: jax.image.resize(t, (t.shape[0], 9, 11), "nearest"),
  },
)
