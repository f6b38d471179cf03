"""What a training step holds in memory: parameters, and what the forward pass keeps for the backward pass."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from convattn.analysis.residuals import residuals
from convattn.models.coatnet import CoAtNet, StageBlocks, block_makers
from convattn.ops.windows import num_windows


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes of one part of a model.

  Attributes:
    name: as in `costs`.
    parameters: in the model's param_dtype; the running averages of BatchNorm are not counted.
    kept_per_image: kept for the backward pass, what grows with the batch.
    kept_once: the same, what does not: parameters in the computation's dtype, a position MLP's hidden layer.
  """

  name: str
  parameters: int
  kept_per_image: int
  kept_once: int

  def kept(self, batch_size: int) -> int:
    """Kept for the backward pass of a batch."""
    return self.kept_once + batch_size * self.kept_per_image


def memory(model: CoAtNet, image_shape: tuple[int, int, int]) -> list[Memory]:
  """A row for each part, as `costs` has them; nothing is computed or allocated.

  What is kept are the arrays that the derivative of a part (jax.vjp in training mode, by its parameters and input)
  takes over from the forward pass, see `residuals`: shapes and dtypes alone, with `remat` and stochastic depth as the
  model has them. Where an operation has several lowerings it is the accelerators'. The sum is what autodiff asks for.
  XLA may hold less, since it computes cheap things again rather than keep them; gradients, optimizer state and the
  working space of single operations come on top.

  Args:
    model: a CoAtNet of any spec.
    image_shape: (height, width, channels) of one image.
  """
  spec = model.spec
  stem = _Part(model, lambda model, x, train: model.stem(x, train=train))
  rows = [stem.row("stem", image_shape, jnp.float32)]
  shape = (*(num_windows(size, spec.stem_stride) for size in image_shape[:2]), spec.stem_widths[-1])
  known: dict[Any, Memory] = {}
  for s, stage in enumerate(spec.stages):
    for j, (kind, width, stride) in enumerate(stage.blocks):
      # The rate rises from 0 at the first block; what is kept does not depend on how large it is.
      rate = spec.stochastic_depth if len(rows) > 1 else 0.0
      fields: dict[str, Any] = {"width": width, "stride": stride, "stochastic_depth": rate}
      name, key = f"stage_{s + 1}/block_{j}", (kind, shape, *fields.values())
      if key not in known:  # deep stages repeat one block
        make = functools.partial(block_makers(spec)[kind], dtype=model.dtype, param_dtype=model.param_dtype, **fields)
        block = _Part(StageBlocks((make,), model.remat), lambda block, x, train: block(x, train=train))
        known[key] = block.row(name, shape, model.dtype)
      rows.append(dataclasses.replace(known[key], name=name))
      shape = (num_windows(shape[0], stride), num_windows(shape[1], stride), width)
  classifier = _Part(model, lambda model, x, train: model.classifier(x, train=train))
  return [*rows, classifier.row("classifier", shape, model.dtype)]


@dataclasses.dataclass(frozen=True)
class _Part:
  """A module, or a part of one: `apply(module, x, train)`."""

  module: nn.Module
  apply: Callable[[Any, jax.Array, bool], jax.Array]

  def row(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Memory:
    """Its memory for images of this shape and dtype."""
    batches = [jax.ShapeDtypeStruct((batch, *shape), dtype) for batch in (2, 3)]
    make = functools.partial(self.module.init, jax.random.key(0), method=self.apply)
    variables = jax.eval_shape(lambda x: make(x, False), batches[0])
    two, three = (_bytes(residuals(self._forward(variables), variables["params"], x)) for x in batches)
    return Memory(name, _bytes(jax.tree.leaves(variables["params"])), three - two, 3 * two - 2 * three)

  def _forward(self, variables: dict[str, Any]) -> Callable[[Any, jax.Array, jax.Array], Any]:
    state = {collection: tree for collection, tree in variables.items() if collection != "params"}

    def forward(params: Any, x: jax.Array, key: jax.Array) -> Any:
      # Zeros are constants to the derivative: running averages play no part in training mode.
      frozen = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
      fields: dict[str, Any] = {"mutable": list(state), "rngs": {"dropout": key}, "method": self.apply}
      return self.module.apply({"params": params, **frozen}, x, True, **fields)

    return forward


def _bytes(arrays: list[Any]) -> int:
  return sum(math.prod(array.shape) * array.dtype.itemsize for array in arrays)
