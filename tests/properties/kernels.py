"""Groups of images: kernels, strides, dilation, channels, windows."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn import layers, ops
from tests.properties.group import Group, draw, laws
from tests.properties.images import IMAGES, KERNEL, WIDE, as_attention, conv, layer, ramp

(DEPTHWISE,) = draw((3, 3, 1, 3), seed=9)
SQUARES = (draw((2, 7, 7, 3), (3, 3, 3, 2)), draw((1, 6, 6, 2), (5, 5, 2, 3), seed=1))


def correlated(x, kernel):
  """Over channels, outputs and images."""
  planes = jax.vmap(lambda a, b: jax.scipy.signal.correlate(a, b, "same"), (-1, -1), -1)
  return jax.vmap(jax.vmap(planes, (None, -1), -1), (0, None))(x, kernel).sum(-2)


TURNS = {"axes": ((1, 2), (0, 1))}
KERNELS = Group(
  arrays=SQUARES,
  laws=laws(
    "cross_correlation",
    flip_equivariant={"axes": (2, 1)},
    transpose_equivariant=TURNS,
    rotation_equivariant=TURNS,
    affine=1,
    gradient_is_slope=(0, 1),
  ),
  ours={"conv": lambda x, kernel: ops.conv(x, kernel)},
  theirs={
    "lax conv": conv,
    "flax.linen.Conv": lambda x, kernel: nn.Conv(kernel.shape[-1], kernel.shape[:2], use_bias=False).apply(
      {"params": {"kernel": kernel}}, x
    ),
    "jax.scipy.signal.correlate": correlated,
  },
  mutants={
    "cross_correlation: kernel backwards": lambda x, kernel: conv(x, kernel[::-1, ::-1]),
    "cross_correlation: kernel backwards for the last image": lambda x, kernel: (
      conv(x, kernel).at[-1].set(conv(x, kernel[::-1, ::-1])[-1])
    ),
    "cross_correlation: rows and columns of the kernel swapped": lambda x, kernel: conv(x, jnp.swapaxes(kernel, 0, 1)),
    "cross_correlation: scaled by the number of taps": lambda x, kernel: conv(x, kernel) / kernel.shape[0],
    "flip_equivariant: padded in front along columns": lambda x, kernel: conv(
      x, kernel, [(kernel.shape[0] // 2,) * 2, (kernel.shape[1] - 1, 0)]
    ),
    "transpose_equivariant: rows weigh more": lambda x, kernel: conv(
      x, kernel * jnp.asarray([1, 2, 1])[:, None, None, None]
    ),
    "rotation_equivariant: columns mirrored at the border": lambda x, kernel: conv(
      jnp.pad(x, [(0, 0), (1, 1), (0, 0), (0, 0)], mode="edge"), kernel, [(0, 0), (1, 1)]
    ),
    "affine: kernel normalised": lambda x, kernel: conv(x, kernel / jnp.abs(kernel).sum()),
    "gradient_is_slope: gradient of the kernel backwards": lambda x, kernel: conv(
      x, jax.lax.stop_gradient(kernel - kernel[::-1]) + kernel[::-1]
    ),
  },
)

STRIDED = Group(
  arrays=(draw((2, 7, 5, 3)), draw((3, 9, 7, 3), seed=1)),
  laws=laws(
    stride_subsamples={"stride": 2, "unstrided": lambda x: conv(x, KERNEL)},
    interior_translation={"radius": 1, "stride": 2},
    local={"radius": 1, "stride": 2},
    reach={"radius": 1, "stride": 2},
    zero_border={"stride": 2},
  ),
  ours={"conv": lambda x: ops.conv(x, KERNEL, stride=2)},
  theirs={
    "lax conv": lambda x: conv(x, KERNEL, stride=2),
    "flax.linen.Conv": lambda x: nn.Conv(2, (3, 3), (2, 2), use_bias=False).apply({"params": {"kernel": KERNEL}}, x),
  },
  mutants={
    "stride_subsamples: starts one later": lambda x: conv(x, KERNEL)[:, 1::2, 1::2],
    "stride_subsamples: pools in place of a stride": lambda x: nn.avg_pool(
      conv(x, KERNEL), (2, 2), (2, 2), padding="SAME"
    ),
  },
)

DILATED = Group(
  arrays=(draw((2, 9, 8, 3)), draw((1, 8, 11, 3), seed=1)),
  laws=laws("zero_border", dilated={"dilation": 2}, local={"radius": 2}, reach={"radius": 2}),
  ours={"conv_to_attention": lambda x: as_attention(KERNEL, padding="SAME", dilation=2)(x)},
  theirs={
    "lax conv": lambda x: conv(x, KERNEL, dilation=2),
    "flax.linen.Conv": layer(nn.Conv(4, (3, 3), kernel_dilation=2)),
  },
  mutants={
    "dilated: five taps": lambda x: conv(x, WIDE),
    "dilated: blurred first": lambda x: conv(nn.avg_pool(x, (1, 2), padding=((0, 0), (0, 1))), KERNEL, dilation=2),
    "dilated: one output sees between": lambda x: conv(x, KERNEL, dilation=2).at[:, 2, 2].add(1e-4 * x[:, 2, 3, :2]),
    "dilated: dilation three": lambda x: conv(x, KERNEL, dilation=3),
  },
)

CHANNELS = Group(
  arrays=IMAGES,
  laws=laws("depthwise affine", local={"radius": 1}),
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
    "depthwise: dense": lambda x: conv(x, jnp.tile(KERNEL, 2)[..., :3]),
    "depthwise: channels centred": lambda x: conv(x, DEPTHWISE, groups=3) - 1e-3 * x.mean(-1, keepdims=True),
    "depthwise: channels one further": lambda x: conv(jnp.roll(x, 1, -1), DEPTHWISE, groups=3),
  },
)

PLACES = Group(
  arrays=IMAGES,
  laws=laws("pointwise batch_independent"),
  ours={"LayerNorm": layer(layers.LayerNorm(), train=False), "Conv, 1x1": layer(layers.Conv(4, kernel_size=1))},
  theirs={
    "flax.linen.Dense": layer(nn.Dense(4)),
    "flax.linen.Conv, 1x1": layer(nn.Conv(4, (1, 1))),
    "flax.linen.LayerNorm": layer(nn.LayerNorm()),
  },
  mutants={
    "pointwise: three taps": lambda x: conv(x, KERNEL),
    "pointwise: another factor at each row": ramp,
    "pointwise: one place sees its neighbour": lambda x: x.at[:, 2, 2].add(1e-6 * x[:, 2, 3]),
    "pointwise: normalised over the image": lambda x: jax.nn.standardize(x, (1, 2, 3)),
    "batch_independent: normalised over the batch": lambda x: jax.nn.standardize(x, (0,)),
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
  laws=laws(windows_isolated={"window": 3}),
  ours={"attend": in_windows(lambda x: ops.attend(x, x, x)[0])},
  theirs={
    "jax.nn.dot_product_attention": in_windows(lambda x: jax.nn.dot_product_attention(x, x, x)),
    "flax.linen.dot_product_attention": in_windows(lambda x: nn.dot_product_attention(x, x, x)),
    "flax.linen.avg_pool": lambda x: jnp.repeat(jnp.repeat(nn.avg_pool(x, (3, 3), (3, 3)), 3, 1), 3, 2),
  },
  mutants={
    "windows_isolated: shifted without a mask": lambda x: jnp.roll(
      in_windows(lambda x: jax.nn.dot_product_attention(x, x, x))(jnp.roll(x, 1, 2)), -1, 2
    ),
    "windows_isolated: windows of the whole width": lambda x: x - x.mean(2, keepdims=True),
    "windows_isolated: reshaped without a transposition": lambda x: jax.nn.standardize(
      x.reshape(-1, 9, x.shape[-1]), 1
    ).reshape(x.shape),
  },
)
