"""Groups of images: convolutions with every border."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn import equivalence, layers, ops
from tests.properties.attention_layers import fixed
from tests.properties.group import Group, draw, laws

NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x, kernel, padding="SAME", stride=1, dilation=1, groups=1):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    padding,
    rhs_dilation=(dilation, dilation),
    dimension_numbers=NHWC,
    feature_group_count=groups,
    precision="highest",
  )


def pad(x, mode, width=1):
  return jnp.pad(x, [(0, 0), (width, width), (width, width), (0, 0)], mode=mode)


def layer(module, **keywords):
  @functools.cache
  def variables(*shape):
    return fixed(module, jnp.ones(shape), **keywords)

  def apply(x):
    return module.apply(variables(*x.shape), x, **keywords)

  return apply


def as_attention(kernel, **keywords):
  """The convolution as a layer of attention, by the table of each head."""
  module, variables = equivalence.conv_to_attention(kernel, mode="table", **keywords)
  return functools.partial(module.apply, variables)


IMAGES = (draw((2, 7, 6, 3)), draw((3, 6, 9, 3), seed=1))
(KERNEL,) = draw((3, 3, 3, 2), seed=7)
(WIDE,) = draw((5, 5, 3, 2), seed=8)


def ramp(x, axis=1):
  """Another factor at each place."""
  return x * (1 + 0.1 * jnp.arange(x.shape[axis], dtype=x.dtype)).reshape([-1 if i == axis else 1 for i in range(4)])


TORUS = Group(
  arrays=IMAGES,
  laws=laws("circular_translation affine batch_independent", interior_translation={"radius": 1}),
  ours={"conv_to_attention": lambda x: as_attention(KERNEL, padding="CIRCULAR")(x)},
  theirs={
    "flax.linen.Conv": layer(nn.Conv(4, (3, 3), padding="CIRCULAR")),
    "lax conv after jnp.pad": lambda x: conv(pad(x, "wrap"), KERNEL, "VALID"),
    "jax.numpy.roll": lambda x: x - jnp.roll(x, 1, 2) + 2 * jnp.roll(x, -1, 1),
  },
  mutants={
    "circular_translation: zeros beyond the border": lambda x: conv(x, KERNEL),
    "circular_translation: circular along rows alone": lambda x: conv(
      jnp.pad(jnp.pad(x, [(0, 0), (1, 1), (0, 0), (0, 0)], mode="wrap"), [(0, 0), (0, 0), (1, 1), (0, 0)]),
      KERNEL,
      "VALID",
    ),
    "circular_translation: wraps one short": lambda x: conv(
      jnp.concatenate([x[:, -2:-1], x, x[:, :1]], 1), KERNEL, [(0, 0), (1, 1)]
    ),
    "affine: squared": lambda x: x**2,
    "batch_independent: centred over the batch": lambda x: x - x.mean(0, keepdims=True),
  },
)

RING = Group(
  arrays=IMAGES,
  laws=laws("circular_translation affine"),
  ours={
    "QuadraticAttention": layer(
      equivalence.QuadraticAttention(num_heads=2, features=3, window=(3, 3), padding="CIRCULAR")
    )
  },
  theirs={},
)

ZEROS = Group(
  arrays=IMAGES,
  laws=laws("zero_border affine", interior_translation={"radius": 1}, local={"radius": 1}, reach={"radius": 1}),
  ours={"Conv": layer(layers.Conv(4)), "DepthwiseConv": layer(layers.DepthwiseConv())},
  theirs={
    "lax conv": lambda x: conv(x, KERNEL),
    "jitted lax conv": jax.jit(lambda x: conv(x, KERNEL)),
    "flax.linen.Conv": layer(nn.Conv(4, (3, 3), use_bias=False)),
  },
  mutants={
    "zero_border: edge repeated": lambda x: conv(pad(x, "edge"), KERNEL, "VALID"),
    "zero_border: ones beyond the border": lambda x: conv(
      jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=1), KERNEL, "VALID"
    ),
    "interior_translation: another factor at each row": lambda x: ramp(conv(x, KERNEL)),
    "interior_translation: another factor at each column": lambda x: ramp(conv(x, KERNEL), 2),
    "local: five taps": lambda x: conv(x, WIDE),
    "local: a mean over the image": lambda x: conv(x, KERNEL) + 0.01 * x.mean((1, 2), keepdims=True)[..., :2],
    "reach: one tap": lambda x: x,
    "reach: three taps along columns alone": lambda x: conv(x, KERNEL[1:2]),
    "affine: squared": lambda x: conv(x, KERNEL) ** 2,
    "local: padded in front": lambda x: conv(x, KERNEL, [(2, 0), (2, 0)]),
    "local: one output sees two further": lambda x: conv(x, KERNEL).at[:, 2, 1].add(1e-4 * x[:, 2, 3, :2]),
  },
)

EDGES = Group(
  arrays=IMAGES,
  laws=laws("edge_border", interior_translation={"radius": 1}, local={"radius": 1}),
  ours={"max_pool": lambda x: ops.max_pool(x, window=3, stride=1)},
  theirs={
    "lax conv after jnp.pad": lambda x: conv(pad(x, "edge"), KERNEL, "VALID"),
    "flax.linen.Conv after jnp.pad": lambda x: layer(nn.Conv(4, (3, 3), padding="VALID"))(pad(x, "edge")),
    "flax.linen.max_pool": lambda x: nn.max_pool(x, (3, 3), padding="SAME"),
  },
  mutants={
    "edge_border: zeros beyond the border": lambda x: conv(x, KERNEL),
    "edge_border: mirrored beyond the border": lambda x: conv(pad(x, "reflect"), KERNEL, "VALID"),
    "edge_border: mean without the padding": lambda x: nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False),
  },
)
