"""Where the taps of a window land: borders, strides and dilation along one axis, as whole numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from convattn.equivalence.inputs import is_whole, plain, shown

PADDINGS = ("VALID", "SAME", "EDGE", "CIRCULAR")
Padding = str | tuple[str, tuple[tuple[int, int], ...]]


@dataclasses.dataclass(frozen=True)
class Axis:
  """A window of `taps` places, `dilation` apart, that moves along `size` pixels in steps of `stride`.

  Output i looks from the middle of its window, query = i stride - before + ((taps - 1) dilation) // 2, at the targets
  i stride - before + t dilation. Keys are the pixels; with "SAME" also the zeros around them, which are tokens like
  any other and take their share of the attention.
  """

  size: int
  taps: int
  stride: int
  dilation: int
  before: int
  after: int
  padding: str

  @property
  def outputs(self) -> int:
    return (self.size + self.before + self.after - (self.taps - 1) * self.dilation - 1) // self.stride + 1

  @property
  def zeros(self) -> tuple[int, int]:
    """Zero tokens in front of the pixels and behind them."""
    return (self.before, self.after) if self.padding == "SAME" else (0, 0)

  @property
  def keys(self) -> np.ndarray:
    """The position of every key: the pixels are 0 .. size - 1."""
    return np.arange(-self.zeros[0], self.size + self.zeros[1])

  @property
  def queries(self) -> np.ndarray:
    """The position of every output: the middle of its window."""
    return np.arange(self.outputs) * self.stride - self.before + (self.taps - 1) * self.dilation // 2

  @property
  def one_hot(self) -> np.ndarray:
    """bool [taps, outputs, keys]: the key that tap t of output i sees.

    Beyond the border that is a zero token ("SAME"), the nearest pixel ("EDGE") or the pixel at the other end
    ("CIRCULAR"); "VALID" outputs see pixels only.
    """
    targets = self.queries[None] + window_shifts(self.taps, self.dilation)[:, None]
    if self.padding == "EDGE":
      targets = np.clip(targets, 0, self.size - 1)
    elif self.padding == "CIRCULAR":
      targets = targets % self.size
    return targets[..., None] == self.keys[None, None]


def window_shifts(taps: int, dilation: int) -> np.ndarray:
  """The shift key - query of every tap: t dilation - ((taps - 1) dilation) // 2. Even windows reach further ahead."""
  return np.arange(taps) * dilation - (taps - 1) * dilation // 2


def image_axes(
  sizes: Sequence[int], window: Sequence[int], strides: Sequence[int], dilation: Sequence[int], padding: Padding
) -> tuple[Axis, ...]:
  """An Axis for each axis of the image.

  Without amounts of their own, "SAME", "EDGE" and "CIRCULAR" pad by XLA's rule, so that a stride s gives ceil(n / s)
  outputs: total = max((ceil(n/s) - 1) s + (taps - 1) dilation + 1 - n, 0), of which total // 2 in front.

  Raises:
    ValueError: the window is larger than what it moves over.
  """
  name, amounts = (padding, None) if isinstance(padding, str) else padding
  axes = []
  for i, (n, taps, stride, step) in enumerate(zip(sizes, window, strides, dilation, strict=True)):
    reach = (taps - 1) * step + 1
    total = 0 if name == "VALID" else max((-(-n // stride) - 1) * stride + reach - n, 0)
    before, after = (total // 2, total - total // 2) if amounts is None else amounts[i]
    if n + before + after < reach:
      raise ValueError(
        f"the window reaches over {reach} pixels ({taps} taps, dilation {step}), but axis {i} of the image has only "
        f"{n + before + after} with padding {padding!r}; use a larger image or another padding."
      )
    axes.append(Axis(n, taps, stride, step, before, after, name))
  return tuple(axes)


def read_padding(padding: Any, axes: int) -> Padding:
  """A name, or (name, amounts) with (before, after) for each axis; amounts alone are zeros, as for lax.

  Raises:
    ValueError: neither of them.
  """
  found = plain(padding)
  if isinstance(found, str) and found in PADDINGS:
    return found
  name, amounts = "SAME", found
  if isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], str):
    name, amounts = found
  if name in PADDINGS[1:] and isinstance(amounts, tuple) and len(amounts) == axes and all(map(_is_pair, amounts)):
    return name, amounts
  raise ValueError(
    f"padding is {shown(padding)}, but must be one of {', '.join(map(repr, PADDINGS))}, {axes} pair(s) (before, after) "
    f"of zeros, or such as ('EDGE', pairs)."
  )


def _is_pair(pair: Any) -> bool:
  return isinstance(pair, tuple) and len(pair) == 2 and all(is_whole(each, 0) for each in pair)
