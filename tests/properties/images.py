"""Groups of images: convolutions with every border, strides, dilation, channels, windows."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn import equivalence, layers, ops
from tests.properties.attention_layers import fixed
from tests.properties.group import Group, draw

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
(DEPTHWISE,) = draw((3, 3, 1, 3), seed=9)


def ramp(x, axis=1):
  """Another factor at each place."""
  return x * (1 + 0.1 * jnp.arange(x.shape[axis], dtype=x.dtype)).reshape([-1 if i == axis else 1 for i in range(4)])


TORUS = Group(
  arrays=IMAGES,
  laws={"circular_translation": {}, "interior_translation": {"radius": 1}, "affine": {}, "batch_independent": {}},
  ours={
    "conv_to_attention": lambda x: as_attention(KERNEL, padding="CIRCULAR")(x),
  },
  theirs={
    "flax.linen.Conv": layer(nn.Conv(4, (3, 3), padding="CIRCULAR")),
    "lax conv after jnp.pad": lambda x: conv(pad(x, "wrap"), KERNEL, "VALID"),
    "jax.numpy.roll": lambda x: x - jnp.roll(x, 1, 2) + 2 * jnp.roll(x, -1, 1),
  },
  mutants={
    "zeros beyond the border": ("circular_translation", lambda x: conv(x, KERNEL)),
    "circular along rows alone": (
      "circular_translation",
      lambda x: conv(
        jnp.pad(jnp.pad(x, [(0, 0), (1, 1), (0, 0), (0, 0)], mode="wrap"), [(0, 0), (0, 0), (1, 1), (0, 0)]),
        KERNEL,
        "VALID",
      ),
    ),
    "wraps one short": (
      "circular_translation",
      lambda x: conv(jnp.concatenate([x[:, -2:-1], x, x[:, :1]], 1), KERNEL, [(0, 0), (1, 1)]),
    ),
    "squared": ("affine", lambda x: x**2),
    "centred over the batch": ("batch_independent", lambda x: x - x.mean(0, keepdims=True)),
  },
)

RING = Group(
  arrays=IMAGES,
  laws={"circular_translation": {}, "affine": {}},
  ours={
    "QuadraticAttention": layer(
      equivalence.QuadraticAttention(num_heads=2, features=3, window=(3, 3), padding="CIRCULAR")
    )
  },
  theirs={},
)

ZEROS = Group(
  arrays=IMAGES,
  laws={
    "zero_border": {},
    "interior_translation": {"radius": 1},
    "local": {"radius": 1},
    "reach": {"radius": 1},
    "affine": {},
  },
  ours={"Conv": layer(layers.Conv(4)), "DepthwiseConv": layer(layers.DepthwiseConv())},
  theirs={
    "lax conv": lambda x: conv(x, KERNEL),
    "jitted lax conv": jax.jit(lambda x: conv(x, KERNEL)),
    "flax.linen.Conv": layer(nn.Conv(4, (3, 3), use_bias=False)),
  },
  mutants={
    "edge repeated": ("zero_border", lambda x: conv(pad(x, "edge"), KERNEL, "VALID")),
    "ones beyond the border": (
      "zero_border",
      lambda x: conv(jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=1), KERNEL, "VALID"),
    ),
    "another factor at each row": ("interior_translation", lambda x: ramp(conv(x, KERNEL))),
    "another factor at each column": ("interior_translation", lambda x: ramp(conv(x, KERNEL), 2)),
    "five taps": ("local", lambda x: conv(x, WIDE)),
    "a mean over the image": ("local", lambda x: conv(x, KERNEL) + 0.01 * x.mean((1, 2), keepdims=True)[..., :2]),
    "one tap": ("reach", lambda x: x),
    "three taps along columns alone": ("reach", lambda x: conv(x, KERNEL[1:2])),
    "squared": ("affine", lambda x: conv(x, KERNEL) ** 2),
    "padded in front": ("local", lambda x: conv(x, KERNEL, [(2, 0), (2, 0)])),
    "one output sees two further": ("local", lambda x: conv(x, KERNEL).at[:, 2, 1].add(1e-4 * x[:, 2, 3, :2])),
  },
)

EDGES = Group(
  arrays=IMAGES,
  laws={"edge_border": {}, "interior_translation": {"radius": 1}, "local": {"radius": 1}},
  ours={"max_pool": lambda x: ops.max_pool(x, window=3, stride=1)},
  theirs={
    "lax conv after jnp.pad": lambda x: conv(pad(x, "edge"), KERNEL, "VALID"),
    "flax.linen.Conv after jnp.pad": lambda x: layer(nn.Conv(4, (3, 3), padding="VALID"))(pad(x, "edge")),
    "flax.linen.max_pool": lambda x: nn.max_pool(x, (3, 3), padding="SAME"),
  },
  mutants={
    "zeros beyond the border": ("edge_border", lambda x: conv(x, KERNEL)),
    "mirrored beyond the border": ("edge_border", lambda x: conv(pad(x, "reflect"), KERNEL, "VALID")),
    "mean without the padding": (
      "edge_border",
      lambda x: nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False),
    ),
  },
)

SQUARES = (draw((2, 7, 7, 3), (3, 3, 3, 2)), draw((1, 6, 6, 2), (5, 5, 2, 3), seed=1))
TURNS = {"axes": ((1, 2), (0, 1))}
KERNELS = Group(
  arrays=SQUARES,
  laws={
    "cross_correlation": {},
    "flip_equivariant": {"axes": (2, 1)},
    "transpose_equivariant": TURNS,
    "rotation_equivariant": TURNS,
    "affine": {"argnums": 1},
    "gradient_is_slope": {"argnums": (0, 1)},
  },
  ours={"conv": lambda x, kernel: ops.conv(x, kernel)},
  theirs={
    "lax conv": conv,
    "flax.linen.Conv": lambda x, kernel: nn.Conv(kernel.shape[-1], kernel.shape[:2], use_bias=False).apply(
      {"params": {"kernel": kernel}}, x
    ),
    "jax.scipy.signal.correlate": lambda x, kernel: jnp.stack(
      [
        jnp.stack(
          [
            sum(jax.scipy.signal.correlate(x[b, ..., c], kernel[..., c, o], "same") for c in range(x.shape[-1]))
            for o in range(kernel.shape[-1])
          ],
          -1,
        )
        for b in range(x.shape[0])
      ]
    ),
  },
  mutants={
    "kernel backwards": ("cross_correlation", lambda x, kernel: conv(x, kernel[::-1, ::-1])),
    "kernel backwards for the last image": (
      "cross_correlation",
      lambda x, kernel: conv(x, kernel).at[-1].set(conv(x, kernel[::-1, ::-1])[-1]),
    ),
    "rows and columns of the kernel swapped": (
      "cross_correlation",
      lambda x, kernel: conv(x, jnp.swapaxes(kernel, 0, 1)),
    ),
    "scaled by the number of taps": ("cross_correlation", lambda x, kernel: conv(x, kernel) / kernel.shape[0]),
    "padded in front along columns": (
      "flip_equivariant",
      lambda x, kernel: conv(x, kernel, [(kernel.shape[0] // 2,) * 2, (kernel.shape[1] - 1, 0)]),
    ),
    "rows weigh more": (
      "transpose_equivariant",
      lambda x, kernel: conv(x, kernel * jnp.asarray([1, 2, 1])[:, None, None, None]),
    ),
    "columns mirrored at the border": (
      "rotation_equivariant",
      lambda x, kernel: conv(jnp.pad(x, [(0, 0), (1, 1), (0, 0), (0, 0)], mode="edge"), kernel, [(0, 0), (1, 1)]),
    ),
    "kernel normalised": ("affine", lambda x, kernel: conv(x, kernel / jnp.abs(kernel).sum())),
    "gradient of the kernel backwards": (
      "gradient_is_slope",
      lambda x, kernel: conv(x, jax.lax.stop_gradient(kernel - kernel[::-1]) + kernel[::-1]),
    ),
  },
)

STRIDED = Group(
  arrays=(draw((2, 7, 5, 3)), draw((3, 9, 7, 3), seed=1)),
  laws={
    "stride_subsamples": {"stride": 2, "unstrided": lambda x: conv(x, KERNEL)},
    "interior_translation": {"radius": 1, "stride": 2},
    "local": {"radius": 1, "stride": 2},
    "reach": {"radius": 1, "stride": 2},
    "zero_border": {"stride": 2},
  },
  ours={"conv": lambda x: ops.conv(x, KERNEL, stride=2)},
  theirs={
    "lax conv": lambda x: conv(x, KERNEL, stride=2),
    "flax.linen.Conv": lambda x: nn.Conv(2, (3, 3), (2, 2), use_bias=False).apply({"params": {"kernel": KERNEL}}, x),
  },
  mutants={
    "starts one later": ("stride_subsamples", lambda x: conv(x, KERNEL)[:, 1::2, 1::2]),
    "pools in place of a stride": (
      "stride_subsamples",
      lambda x: nn.avg_pool(conv(x, KERNEL), (2, 2), (2, 2), padding="SAME"),
    ),
  },
)

DILATED = Group(
  arrays=(draw((2, 9, 8, 3)), draw((1, 8, 11, 3), seed=1)),
  laws={"dilated": {"dilation": 2}, "local": {"radius": 2}, "reach": {"radius": 2}, "zero_border": {}},
  ours={"conv_to_attention": lambda x: as_attention(KERNEL, padding="SAME", dilation=2)(x)},
  theirs={
    "lax conv": lambda x: conv(x, KERNEL, dilation=2),
    "flax.linen.Conv": layer(nn.Conv(4, (3, 3), kernel_dilation=2)),
  },
  mutants={
    "five taps": ("dilated", lambda x: conv(x, WIDE)),
    "blurred first": ("dilated", lambda x: conv(nn.avg_pool(x, (1, 2), padding=((0, 0), (0, 1))), KERNEL, dilation=2)),
    "one output sees between": (
      "dilated",
      lambda x: conv(x, KERNEL, dilation=2).at[:, 2, 2].add(1e-4 * x[:, 2, 3, :2]),
    ),
    "dilation three": ("dilated", lambda x: conv(x, KERNEL, dilation=3)),
  },
)

CHANNELS = Group(
  arrays=IMAGES,
  laws={"depthwise": {}, "affine": {}, "local": {"radius": 1}},
  ours={
    "depthwise_conv": lambda x: ops.depthwise_conv(x, DEPTHWISE),
    "DepthwiseConv, twice as wide": layer(layers.DepthwiseConv(width=6)),
  },
  theirs={
    "lax conv": lambda x: conv(x, DEPTHWISE, groups=3),
    "flax.linen.Conv": layer(nn.Conv(6, (3, 3), feature_group_count=3)),
    "flax.linen.avg_pool": lambda x: nn.avg_pool(x, (3, 3), padding="SAME"),
  },
  mutants={
    "dense": ("depthwise", lambda x: conv(x, jnp.tile(KERNEL, 2)[..., :3])),
    "channels centred": ("depthwise", lambda x: conv(x, DEPTHWISE, groups=3) - 1e-3 * x.mean(-1, keepdims=True)),
    "channels one further": ("depthwise", lambda x: conv(jnp.roll(x, 1, -1), DEPTHWISE, groups=3)),
  },
)

PLACES = Group(
  arrays=IMAGES,
  laws={"pointwise": {}, "batch_independent": {}},
  ours={"LayerNorm": layer(layers.LayerNorm(), train=False), "Conv, 1x1": layer(layers.Conv(4, kernel_size=1))},
  theirs={
    "flax.linen.Dense": layer(nn.Dense(4)),
    "flax.linen.Conv, 1x1": layer(nn.Conv(4, (1, 1))),
    "flax.linen.LayerNorm": layer(nn.LayerNorm()),
  },
  mutants={
    "three taps": ("pointwise", lambda x: conv(x, KERNEL)),
    "another factor at each row": ("pointwise", ramp),
    "one place sees its neighbour": ("pointwise", lambda x: x.at[:, 2, 2].add(1e-6 * x[:, 2, 3])),
    "normalised over the image": ("pointwise", lambda x: jax.nn.standardize(x, (1, 2, 3))),
    "normalised over the batch": ("batch_independent", lambda x: jax.nn.standardize(x, (0,))),
  },
)


def windows(x, size):
  b, h, w, c = x.shape
  return x.reshape(b, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5).reshape(-1, size * size, c)


def images(x, size, shape):
  b, h, w, c = shape
  return x.reshape(b, h // size, w // size, size, size, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)


def in_windows(attend, size=3):
  def apply(x):
    parts = windows(x, size)
    return images(attend(parts[:, :, None])[:, :, 0], size, x.shape)

  return apply


WINDOWS = Group(
  arrays=(draw((2, 6, 9, 4)), draw((1, 9, 6, 5), seed=1)),
  laws={"windows_isolated": {"window": 3}},
  ours={"attend": in_windows(lambda x: ops.attend(x, x, x)[0])},
  theirs={
    "jax.nn.dot_product_attention": in_windows(lambda x: jax.nn.dot_product_attention(x, x, x)),
    "flax.linen.dot_product_attention": in_windows(lambda x: nn.dot_product_attention(x, x, x)),
    "flax.linen.avg_pool": lambda x: jnp.repeat(jnp.repeat(nn.avg_pool(x, (3, 3), (3, 3)), 3, 1), 3, 2),
  },
  mutants={
    "shifted without a mask": (
      "windows_isolated",
      lambda x: jnp.roll(in_windows(lambda x: jax.nn.dot_product_attention(x, x, x))(jnp.roll(x, 1, 2)), -1, 2),
    ),
    "windows of the whole width": ("windows_isolated", lambda x: x - x.mean(2, keepdims=True)),
    "reshaped without a transposition": (
      "windows_isolated",
      lambda x: jax.nn.standardize(x.reshape(-1, 9, x.shape[-1]), 1).reshape(x.shape),
    ),
  },
)
GROUPS = {name.lower(): group for name, group in list(globals().items()) if isinstance(group, Group)}
