"""Which laws of `convattn.properties` every op obeys, in float64, and which it breaks.

A row: op, arrays or shapes of drawn ones, laws that it obeys and, as negative controls, some that it breaks.
"""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import ops, properties
from tests.properties.group import laws

T = 5
Row = collections.namedtuple("Row", "op arrays obeys breaks", defaults=({},))


def slopes(count):
  """Laws of gradients in so many arguments. The default tolerance, 1e-5, is for functions less smooth than these."""
  argnums = tuple(range(count))
  return laws(gradient_is_slope={"argnums": argnums, "tolerance": 1e-7}, jvp_is_vjp=argnums)


def attend(result, name):
  """Its output (0) or its weights (1), with an argument of that name behind the query, key and value."""
  return lambda query, key, value, other: ops.attend(query, key, value, **{name: other})[result]


def out(query, key, value, mask=None):
  return ops.attend(query, key, value, mask=mask)[0]


def of_tokens(x, mask):
  """x [b, t, c] as query, key and value of one head, mask [b, t]."""
  return out(*(x[:, :, None],) * 3, mask=mask[:, None, None])[:, :, 0]


QUERY, KEY, ALL, TIME, HULL = (2, 3, 2, 4), (2, 5, 2, 4), (0, 1, 2), {"axis": 1}, {"value": 2, "axis": 1}
QKV, TOKENS = (QUERY, KEY, (2, 5, 2, 7)), ((2, T, 2, 3),) * 3
PAIRS = (*QKV, (2, 3, 5))
MASKED = (*QKV, (np.random.default_rng(0).random((2, 1, 3, 5)) < 0.7) | (np.arange(5) == 2))
CAUSAL = {name: TIME | {"argnums": ALL} for name in ("causal", "causal_jacobian")}
ORDER = laws(head_permutation={"axes": (None, 1, 1, 2)})  # keys with value and bias, like heads that are added up
SOME = np.tri(T, T, -1, dtype=bool) & np.asarray([True, False]).reshape(2, 1, 1, 1)  # and some queries see nothing
ATTENTION = {
  "attend, bias": Row(
    attend(0, "bias"),
    PAIRS,
    slopes(4) | ORDER | laws(affine=2, convex_hull=HULL, batch_independent=ALL),
    laws(affine=3, zero_query_averages=TIME, source_permutation_invariant=TIME),
  ),
  "attend, static weights": Row(
    attend(0, "static_weights"),
    PAIRS,
    slopes(4) | ORDER | laws(affine=3, zero_is_neutral={"without": out}),
    laws(convex_hull=HULL),
  ),
  "weights, bias": Row(
    attend(1, "bias"), PAIRS, laws("rows_stochastic bias_before_softmax", logit_shift_invariant=3), laws("bias_adds")
  ),
  "weights, static weights": Row(
    attend(1, "static_weights"), PAIRS, laws("bias_adds"), laws("rows_stochastic bias_before_softmax")
  ),
  "attend": Row(out, TOKENS, laws(permutation_equivariant=TIME), CAUSAL),
  "attend, causal": Row(
    functools.partial(out, mask=ops.causal_mask(T)),
    TOKENS,
    CAUSAL,
    laws(causal=TIME | {"argnums": 1, "lag": 1}, permutation_equivariant=TIME | {"argnums": ALL}),
  ),
  "attend, nobody": Row(functools.partial(out, mask=SOME), TOKENS, slopes(3), laws(convex_hull=HULL)),
  "attend, padding": Row(
    of_tokens,
    ((2, T, 3), ops.padding_mask(jnp.asarray([3, 4]), T)[:, 0, 0]),
    laws("mask_isolates mask_is_truncation"),
    laws("mask_stops_nan"),
  ),
  "attend, a mask": Row(attend(0, "mask"), MASKED, laws(fully_masked_row=TIME)),
  "weights, a mask": Row(
    attend(1, "mask"), MASKED, laws("fully_masked_row rows_stochastic"), laws(fully_masked_row={"policy": "uniform"})
  ),
  "parameter_free_attention": Row(
    lambda x: ops.parameter_free_attention(x)[0],
    ((2, T, 4),),
    laws("permutation_equivariant batch_independent", convex_hull={"value": 0}),
    laws("affine"),
  ),
  "its weights": Row(
    lambda x: ops.parameter_free_attention(x)[1],
    ((2, T, 4),),
    laws("rows_stochastic detailed_balance"),
    laws("symmetric"),
  ),
}

# Permuted keys, permuted logits.
LOGITS = laws(permutation_equivariant={"axis": 1, "argnums": 1, "out_axis": -1}, batch_independent=(0, 1))
SIZES, ONE, WIDE = laws(scale_invariant=(0, 1)), laws(bounded={"bound": 1.0}), (2, 5, 2, 6)
SIMILARITIES = {
  "dot": Row(ops.dot, (QUERY, KEY), LOGITS | laws("query_key_gauge homogeneous"), SIZES | ONE | laws("logit_variance")),
  "scaled_dot": Row(ops.scaled_dot, (QUERY, KEY), LOGITS | laws("query_key_gauge logit_variance")),
  "cosine": Row(
    ops.cosine, (QUERY, KEY), slopes(2) | LOGITS | SIZES | ONE, laws("query_key_gauge", bounded={"bound": 0.7})
  ),
  "bilinear": Row(
    ops.bilinear,
    (QUERY, WIDE, (2, 4, 6)),
    slopes(3) | LOGITS | laws(affine=2, head_permutation={"axes": (2, 2, 0), "out_axis": 1}),
    laws(not_affine=2),
  ),
  "additive": Row(
    lambda q, k, w, u, v: ops.additive(q, k, w, u, v / jnp.abs(v).sum(1, keepdims=True)),
    (QUERY, WIDE, (2, 4, 3), (2, 6, 3), (2, 3)),
    slopes(5) | LOGITS | ONE | laws(head_permutation={"axes": (2, 2, 0, 0, 0), "out_axis": 1}),
    SIZES | laws(bounded={"bound": 0.9}),
  ),
  "exact_match": Row(lambda q, k: ops.exact_match(q > 0, k > 0), ((2, 3, 2, 1), (2, 5, 2, 1)), LOGITS),
}


def among_neighbours(x):
  """Attention of an image [b, 5, 4, c] with itself, each pixel seeing the 3x3 around it."""
  tokens = x.reshape(x.shape[0], 20, 1, x.shape[-1])
  return out(tokens, tokens, tokens, mask=ops.neighbour_mask(5, 4, 3)).reshape(x.shape)


IMAGE, FAR, REACH = (2, 7, 6, 3), laws("circular_translation", local={"radius": 0}), laws(reach={"radius": 1})
NEAR = laws(local={"radius": 1}, interior_translation={"radius": 1})
IMAGES = {
  "gelu": Row(ops.gelu, ((3, 61),), slopes(1) | laws("vmap_agrees", pointwise={"axes": (0, 1)}), laws("monotone odd")),
  **{
    form.__name__: Row(
      form,
      (IMAGE, (3, 3, 1, 3)),
      slopes(2) | NEAR | REACH | laws("depthwise zero_border", affine=1),
      FAR | laws("edge_border"),
    )
    for form in (ops.depthwise_conv, ops.depthwise_conv_shifted, ops.depthwise_conv_grouped)
  },
  "conv": Row(
    ops.conv,
    (IMAGE, (3, 3, 3, 2)),
    NEAR | REACH | laws("cross_correlation zero_border batch_independent", affine=1),
    FAR | laws("edge_border", flip_equivariant={"axes": (2, None)}),
  ),
  "causal_conv": Row(
    functools.partial(ops.causal_conv, dilation=2),
    ((2, 9, 3), (3, 3, 4)),
    slopes(2) | laws("causal", affine=1, dilated={"dilation": 2}),
    laws(causal={"lag": 1}, dilated={"dilation": 4}),
  ),
  "max_pool": Row(
    functools.partial(ops.max_pool, window=3, stride=1),
    (IMAGE,),
    NEAR | laws("edge_border depthwise monotone", homogeneous={"positive": True}),
    FAR | laws("affine"),
  ),
  "avg_pool": Row(
    functools.partial(ops.avg_pool, window=3, stride=1),
    (IMAGE,),
    NEAR | laws("depthwise monotone affine jvp_is_vjp"),
    FAR | laws("zero_border edge_border"),
  ),
  "neighbour_mask": Row(among_neighbours, ((2, 5, 4, 3),), NEAR | REACH, FAR | laws(reach={"radius": 2})),
  "window_partition": Row(
    functools.partial(ops.window_partition, window=(2, 3)),
    ((2, 4, 9, 3),),
    laws(inverse={"inverse": lambda parts: ops.window_reverse(parts, (2, 3), (4, 9)), "tolerance": 0}),
    laws(inverse={"inverse": lambda parts: ops.window_reverse(parts[::-1], (2, 3), (4, 9))}),
  ),
}

MAP, LINEAR = (2, 5, 7), laws("affine homogeneous jvp_is_vjp")
TABLES = {
  form.__name__: Row(
    form, (MAP,), LINEAR | laws(block_toeplitz={"grid": (3, 4)}), laws(block_toeplitz={"grid": (4, 3)})
  )
  for form in (ops.relative_bias, ops.relative_bias_one_hot, ops.relative_bias_gather)
} | {
  "relative_bias, of a line": Row(
    lambda table: ops.relative_bias(table[:, None]), ((2, 9),), laws("shift_sign"), laws(shift_sign={"reverse": True})
  ),
  "sinusoids": Row(
    lambda waves: waves @ waves.T, (ops.sinusoids(9, 6),), laws(block_toeplitz={"grid": (9,), "tolerance": 1e-6})
  ),
  "clipped_logits": Row(
    ops.clipped_logits, ((1, 6, 3, 4), (5, 4)), slopes(2) | laws(clipped={"distance": 2}), laws(clipped={"distance": 1})
  ),
  "clipped_logits, a long table": Row(
    ops.clipped_logits,
    ((1, 6, 3, 4), (15, 4)),
    laws(only_reached_shifts_learn={"length": 6, "table": 1}),
    laws(only_reached_shifts_learn={"length": 5, "table": 1}),
  ),
  "clipped_values": Row(ops.clipped_values, ((2, 3, 5, 5), (3, 4)), slopes(2) | laws(affine=1)),
  "row_column_logits": Row(ops.row_column_logits, ((1, 6, 2, 4), (3, 4), (5, 4)), slopes(3) | laws("affine")),
  "centred_bias": Row(lambda c: ops.centred_bias(c, (2, 3), 1.5), ((2, 5, 3, 2),), slopes(1), laws("affine")),
  "quadratic_table": Row(
    lambda *a: ops.quadratic_table(*a, (2, 3)), ((3, 2), (3,)), slopes(2) | laws(affine=1), laws("affine")
  ),
  "quadratic_table_general": Row(lambda *a: ops.quadratic_table_general(*a, (2, 3)), ((3, 2), (3, 2, 2)), slopes(2)),
  "attend_row_column": Row(
    ops.attend_row_column, ((2, 3, 4, 5), (2, 3, 6, 7), (2, 5, 7, 3)), slopes(3) | laws(affine=2, batch_independent=2)
  ),
}
RESIZED = {
  f"resize_table, {method}, to {new[0]}x{new[1]}": Row(
    functools.partial(ops.resize_table, grid=new, method=method),
    (MAP,),
    LINEAR
    | laws("resize_keeps_constants resize_keeps_centre monotone vmap_agrees", flip_equivariant={"axes": (flipped,)}),
    laws("resize_keeps_ramps"),
  )
  for method in ops.RESIZE_METHODS
  for new, flipped in (((5, 6), 1), ((2, 3), 2), ((2, 6), 1))
}
ROWS = ATTENTION | SIMILARITIES | IMAGES | TABLES | RESIZED


@pytest.mark.parametrize("name", ROWS)
def test_an_op_obeys_its_laws_and_breaks_those_that_are_not_its_own(name):
  op, arrays, obeys, breaks = ROWS[name]
  random, op = np.random.default_rng(3), jax.jit(op)
  with jax.enable_x64(True):
    arrays = [jnp.asarray(random.standard_normal(a) if isinstance(a, tuple) else a) for a in arrays]
    for law, keywords in obeys.items():
      properties.LAWS[law].check(op, *arrays, **keywords)
    for law, keywords in breaks.items():
      with pytest.raises(properties.LawBroken):
        properties.LAWS[law].check(op, *arrays, **keywords)
