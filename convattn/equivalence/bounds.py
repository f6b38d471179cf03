"""How far attention of finite alpha is from the convolution it stands for."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from convattn.equivalence.inputs import is_floating, known_kernel, read_number, read_whole, shown


def off_target_mass(alpha: float, axes: int = 2) -> float:
  """The attention that a Gaussian head spends beside its target, on an infinite grid.

      m = 1 - theta^-axes,   theta = sum_{n in Z} exp(-alpha n^2)         m = 2 axes exp(-alpha) + O(exp(-2 alpha))

  Images are parts of the grid, and so is their ring ("CIRCULAR"); where the target lies beyond the border ("EDGE") the
  others fall behind the nearest pixel faster still. So m bounds what every head spends beside its pixel, everywhere.
  """
  alpha, axes = read_number("alpha", alpha, "positive and finite"), read_whole("axes", axes)
  if alpha >= 1:
    n = np.arange(1, math.ceil(math.sqrt(750 / alpha)) + 1)
    log_theta = math.log1p(2 * float(np.sum(np.exp(-alpha * n**2))))
  else:  # the same sum by Poisson's formula, of few terms where the first has many
    log_theta = 0.5 * math.log(math.pi / alpha) - math.log1p(-off_target_mass(math.pi**2 / alpha, 1))
  return -math.expm1(-axes * log_theta)


def error_bound(kernel: Any, alpha: float, max_abs: float) -> float:
  """The most that mode "quadratic" can differ from the convolution in any output, in exact arithmetic.

      2 m(alpha) max_abs max_o sum_{t, c} |kernel[t, c, o]|         m: `off_target_mass`

  A head takes m at most away from its target and spreads it over pixels that differ from it by 2 max_abs at most. It
  holds for every border, stride and dilation, and for values in kernel's place that training has changed, as long as
  the shifts are whole numbers. In floating point add `rounding_floor`.

  A kernel with one tap meets it (an image of -max_abs with +max_abs at the target), but for what the border cuts off.
  Where the heads of neighbouring taps see each other's targets their errors may cancel: a smooth kernel's stay below.

  Args:
    kernel: [k, c, o] or [k_h, k_w, c, o]: c is the channels of a group.
    alpha: the precision of the heads.
    max_abs: the largest absolute value in the images.

  Raises:
    TypeError: a kernel that is no array of numbers.
    ValueError: a kernel of another rank, traced or not finite; alpha not one positive and finite number; max_abs
      negative or not finite.
  """
  largest = _largest_output(kernel, max_abs)
  return 2 * off_target_mass(alpha, np.ndim(kernel) - 2) * largest


def rounding_floor(kernel: Any, max_abs: float, dtype: DTypeLike = np.float32) -> float:
  """What rounding may add to `error_bound`, in attention and convolution together: (terms + 16) eps times outputs.

      (t c + 16) eps max_abs max_o sum_{t, c} |kernel[t, c, o]|

  t c terms in each output, and 16 roundings for the softmax and the two products along the axes.
  """
  if not is_floating(dtype):
    raise ValueError(f"dtype is {shown(dtype)}, but must be one of real floats, such as 'float32'.")
  largest = _largest_output(kernel, max_abs)
  return (math.prod(np.shape(kernel)[:-1]) + 16) * float(jnp.finfo(dtype).eps) * largest


def _largest_output(kernel: Any, max_abs: float) -> float:
  """The largest output that images within max_abs can have."""
  kernel = known_kernel(kernel, "a bound is a number").astype(np.float64)
  max_abs = read_number("max_abs", max_abs, "a finite number, not negative", zero=True)
  return max_abs * float(np.abs(kernel).reshape(-1, kernel.shape[-1]).sum(0).max())
