"""Which laws of `convattn.properties` every op obeys, in float64, and which it breaks.

name -> (op, its arrays or the shapes of drawn ones, the laws that it obeys with their keywords, and, as a negative
control, some that it breaks). What stands behind a comma in a law tells two of the same apart.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn import ops, properties

T = 5


def slopes(count):
  """Laws of gradients in so many arguments. The default tolerance, 1e-5, is for functions less smooth than these."""
  argnums = tuple(range(count))
  return {"gradient_is_slope": {"argnums": argnums, "tolerance": 1e-7}, "jvp_is_vjp": {"argnums": argnums}}


def out(query, key, value, **keywords):
  return ops.attend(query, key, value, **keywords)[0]


def weights(query, key, value, **keywords):
  return ops.attend(query, key, value, **keywords)[1]


def tokens_under(x, mask):
  """x [b, t, c] as query, key and value of one head, mask [b, t]."""
  return out(*(x[:, :, None],) * 3, mask=mask[:, None, None])[:, :, 0]


QKV, PAIRS, TOKENS = ((2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 7)), (2, 3, 5), ((2, T, 2, 3),) * 3
ALL, TIME = {"argnums": (0, 1, 2)}, {"axis": 1}
ORDER = {"head_permutation": {"axes": (None, 1, 1, 2)}}  # keys with value and bias, like heads that are added up
SEEN = ops.padding_mask(jnp.asarray([3, 4]), T)[:, 0, 0]
SOME = (np.random.default_rng(0).random((2, 1, 3, 5)) < 0.7) | (np.arange(5) == 2)
NOBODY = np.tri(T, T, -1, dtype=bool) & np.asarray([True, False]).reshape(2, 1, 1, 1)  # some queries see nothing
ATTENTION = {
  "attend, bias": (
    lambda q, k, v, bias: out(q, k, v, bias=bias),
    (*QKV, PAIRS),
    slopes(4) | ORDER | {"affine": {"argnums": 2}, "convex_hull": {"value": 2, "axis": 1}, "batch_independent": ALL},
    {"affine": {"argnums": 3}, "zero_query_averages": TIME, "source_permutation_invariant": TIME},
  ),
  "attend, static weights": (
    lambda q, k, v, static: out(q, k, v, static_weights=static),
    (*QKV, PAIRS),
    slopes(4) | ORDER | {"affine": {"argnums": 3}, "zero_is_neutral": {"without": out}},
    {"convex_hull": {"value": 2, "axis": 1}},
  ),
  "weights, bias": (
    lambda q, k, v, bias: weights(q, k, v, bias=bias),
    (*QKV, PAIRS),
    {"rows_stochastic": {}, "bias_before_softmax": {}, "logit_shift_invariant": {"argnums": 3}},
    {"bias_adds": {}},
  ),
  "weights, static weights": (
    lambda q, k, v, static: weights(q, k, v, static_weights=static),
    (*QKV, PAIRS),
    {"bias_adds": {}},
    {"rows_stochastic": {}, "bias_before_softmax": {}},
  ),
  "attend, causal": (
    functools.partial(out, mask=ops.causal_mask(T)),
    TOKENS,
    {"causal": TIME | ALL, "causal_jacobian": TIME | ALL},
    {"causal": TIME | {"argnums": 1, "lag": 1}, "permutation_equivariant": TIME | ALL},
  ),
  "attend": (out, TOKENS, {"permutation_equivariant": TIME}, {"causal": TIME | ALL, "causal_jacobian": TIME | ALL}),
  "attend, nobody": (functools.partial(out, mask=NOBODY), TOKENS, slopes(3), {"convex_hull": {"value": 2, "axis": 1}}),
  "attend, padding": (
    tokens_under,
    ((2, T, 3), SEEN),
    {"mask_isolates": {}, "mask_is_truncation": {}},
    {"mask_stops_nan": {}},
  ),
  "attend, a mask": (
    lambda q, k, v, mask: out(q, k, v, mask=mask),
    (*QKV, SOME),
    {"fully_masked_row": TIME},
    {"rows_stochastic": {}},
  ),
  "weights, a mask": (
    lambda q, k, v, mask: weights(q, k, v, mask=mask),
    (*QKV, SOME),
    {"fully_masked_row": {}, "rows_stochastic": {}},
    {"fully_masked_row": {"policy": "uniform"}},
  ),
  "parameter_free_attention": (
    lambda x: ops.parameter_free_attention(x)[0],
    ((2, T, 4),),
    {"convex_hull": {"value": 0}, "permutation_equivariant": {}, "batch_independent": {}},
    {"affine": {}},
  ),
  "its weights": (
    lambda x: ops.parameter_free_attention(x)[1],
    ((2, T, 4),),
    {"rows_stochastic": {}, "detailed_balance": {}},
    {"symmetric": {}},
  ),
}

# Permuted keys, permuted logits; each head by itself.
LOGITS = {
  "permutation_equivariant": {"axis": 1, "argnums": 1, "out_axis": -1},
  "batch_independent": {"argnums": (0, 1)},
}
SIZES, ONE = {"scale_invariant": {"argnums": (0, 1)}}, {"bounded": {"bound": 1.0}}
SIMILARITIES = {
  "dot": (ops.dot, QKV[:2], LOGITS | {"query_key_gauge": {}, "homogeneous": {}}, SIZES | ONE | {"logit_variance": {}}),
  "scaled_dot": (ops.scaled_dot, QKV[:2], LOGITS | {"query_key_gauge": {}, "logit_variance": {}}),
  "cosine": (ops.cosine, QKV[:2], slopes(2) | LOGITS | SIZES | ONE, {"query_key_gauge": {}, "bounded": {"bound": 0.7}}),
  "bilinear": (
    ops.bilinear,
    (QKV[0], (2, 5, 2, 6), (2, 4, 6)),
    slopes(3) | LOGITS | {"affine": {"argnums": 2}, "head_permutation": {"axes": (2, 2, 0), "out_axis": 1}},
    {"not_affine": {"argnums": 2}},
  ),
  "additive": (
    lambda q, k, w, u, v: ops.additive(q, k, w, u, v / jnp.abs(v).sum(1, keepdims=True)),
    (QKV[0], (2, 5, 2, 6), (2, 4, 3), (2, 6, 3), (2, 3)),
    slopes(5) | LOGITS | ONE | {"head_permutation": {"axes": (2, 2, 0, 0, 0), "out_axis": 1}},
    SIZES | {"bounded": {"bound": 0.9}},
  ),
  "exact_match": (lambda q, k: ops.exact_match(q > 0, k > 0), ((2, 3, 2, 1), (2, 5, 2, 1)), LOGITS),
}


IMAGE, DEPTHWISE = (2, 7, 6, 3), (3, 3, 1, 3)
NEAR = {"local": {"radius": 1}, "interior_translation": {"radius": 1}}
FAR, TORUS = {"local": {"radius": 0}}, {"circular_translation": {}}


def among_neighbours(x):
  """Attention of an image [b, 5, 4, c] with itself, each pixel seeing the 3x3 around it."""
  tokens = x.reshape(x.shape[0], 20, 1, x.shape[-1])
  return out(tokens, tokens, tokens, mask=ops.neighbour_mask(5, 4, 3)).reshape(x.shape)


IMAGES = {
  "gelu": (
    ops.gelu,
    ((3, 61),),
    slopes(1) | {"pointwise": {"axes": (0, 1)}, "vmap_agrees": {}},
    {"monotone": {}, "odd": {}},
  ),
  "depthwise_conv": (
    ops.depthwise_conv,
    (IMAGE, DEPTHWISE),
    NEAR | {"depthwise": {}, "zero_border": {}, "reach": {"radius": 1}, "affine": {"argnums": 1}},
    FAR | TORUS | {"edge_border": {}},
  ),
  "conv": (
    ops.conv,
    (IMAGE, (3, 3, 3, 2)),
    NEAR | {"cross_correlation": {}, "zero_border": {}, "batch_independent": {}},
    FAR | TORUS | {"edge_border": {}, "flip_equivariant": {"axes": (2, None)}},
  ),
  "causal_conv": (
    functools.partial(ops.causal_conv, dilation=2),
    ((2, 9, 3), (3, 3, 4)),
    slopes(2) | {"causal": {}, "affine": {"argnums": 1}, "dilated": {"dilation": 2}},
    {"causal": {"lag": 1}, "dilated": {"dilation": 4}},
  ),
  "max_pool": (
    functools.partial(ops.max_pool, window=3, stride=1),
    (IMAGE,),
    NEAR | {"edge_border": {}, "depthwise": {}, "monotone": {}, "homogeneous": {"positive": True}},
    FAR | {"affine": {}},
  ),
  "avg_pool": (
    functools.partial(ops.avg_pool, window=3, stride=1),
    (IMAGE,),
    NEAR | {"depthwise": {}, "monotone": {}, "affine": {}, "jvp_is_vjp": {}},
    FAR | {"zero_border": {}, "edge_border": {}},
  ),
  "neighbour_mask": (
    among_neighbours,
    ((2, 5, 4, 3),),
    NEAR | {"reach": {"radius": 1}},
    FAR | TORUS | {"reach": {"radius": 2}},
  ),
  "window_partition": (
    functools.partial(ops.window_partition, window=(2, 3)),
    ((2, 4, 9, 3),),
    {"inverse": {"inverse": lambda parts: ops.window_reverse(parts, (2, 3), (4, 9)), "tolerance": 0}},
    {"inverse": {"inverse": lambda parts: ops.window_reverse(parts[::-1], (2, 3), (4, 9))}},
  ),
}

MAP, LINEAR = (2, 5, 7), {"affine": {}, "homogeneous": {}, "jvp_is_vjp": {}}
TABLES = {
  form.__name__: (form, (MAP,), LINEAR | {"block_toeplitz": {"grid": (3, 4)}}, {"block_toeplitz": {"grid": (4, 3)}})
  for form in (ops.relative_bias, ops.relative_bias_one_hot, ops.relative_bias_gather)
} | {
  "relative_bias, of a line": (
    lambda table: ops.relative_bias(table[:, None]),
    ((2, 9),),
    {"shift_sign": {}},
    {"shift_sign": {"reverse": True}},
  ),
  "sinusoids": (
    lambda waves: waves @ waves.T,
    (ops.sinusoids(9, 6),),
    {"block_toeplitz": {"grid": (9,), "tolerance": 1e-6}},
  ),
  "clipped_logits": (
    ops.clipped_logits,
    ((1, 6, 3, 4), (5, 4)),
    slopes(2) | {"clipped": {"distance": 2}},
    {"clipped": {"distance": 1}, "clipped, later": {"distance": 3}},
  ),
  "clipped_logits, a long table": (
    ops.clipped_logits,
    ((1, 6, 3, 4), (15, 4)),
    {"only_reached_shifts_learn": {"length": 6, "table": 1}},
    {f"only_reached_shifts_learn, {n}": {"length": n, "table": 1} for n in (5, 7)},
  ),
  "clipped_values": (ops.clipped_values, ((2, 3, 5, 5), (3, 4)), slopes(2) | {"affine": {"argnums": 1}}),
  "row_column_logits": (ops.row_column_logits, ((1, 6, 2, 4), (3, 4), (5, 4)), slopes(3) | {"affine": {}}),
  "centred_bias": (lambda c: ops.centred_bias(c, (2, 3), 1.5), ((2, 5, 3, 2),), slopes(1), {"affine": {}}),
  "quadratic_table": (
    lambda centre, alpha: ops.quadratic_table(centre, alpha, (2, 3)),
    ((3, 2), (3,)),
    slopes(2) | {"affine": {"argnums": 1}},
    {"affine": {}},
  ),
  "quadratic_table_general": (
    lambda centre, root: ops.quadratic_table_general(centre, root, (2, 3)),
    ((3, 2), (3, 2, 2)),
    slopes(2),
  ),
  "attend_row_column": (
    ops.attend_row_column,
    ((2, 3, 4, 5), (2, 3, 6, 7), (2, 5, 7, 3)),
    slopes(3) | {"affine": {"argnums": 2}, "batch_independent": {"argnums": 2}},
  ),
}
RESIZED = {
  f"resize_table, {method}, to {new[0]}x{new[1]}": (
    functools.partial(ops.resize_table, grid=new, method=method),
    (MAP,),
    LINEAR
    | {"resize_keeps_constants": {}, "resize_keeps_centre": {}, "monotone": {}, "vmap_agrees": {}}
    | {"flip_equivariant, rows": {"axes": (1,)}, "flip_equivariant, columns": {"axes": (2,)}},
    {"resize_keeps_ramps": {}},
  )
  for method in ops.RESIZE_METHODS
  for new in ((5, 6), (2, 3), (2, 6))
}
ROWS = ATTENTION | SIMILARITIES | IMAGES | TABLES | RESIZED


@pytest.mark.parametrize("name", ROWS)
def test_an_op_obeys_its_laws_and_breaks_those_that_are_not_its_own(name):
  op, arrays, obeys, *breaks = ROWS[name]
  random = np.random.default_rng(3)
  with jax.enable_x64(True):
    arrays = [jnp.asarray(random.standard_normal(a) if isinstance(a, tuple) else a) for a in arrays]
    function = jax.jit(op)
    for law, keywords in obeys.items():
      properties.LAWS[law.split(",")[0]].check(function, *arrays, **keywords)
    for law, keywords in dict(*breaks).items():
      with pytest.raises(properties.LawBroken):
        properties.LAWS[law.split(",")[0]].check(function, *arrays, **keywords)
