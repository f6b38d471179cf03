"""What each cell of the last map contributes to a logit: no estimate, but the classifier's own sum, cell by cell."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from convattn.analysis.attention_map import Grid
from convattn.analysis.calling import checked_images, chosen_classes, compiled, in_pieces, pixels_of
from convattn.analysis.feature_maps import Context, intercepted, traced
from convattn.analysis.geometry import Following, Path
from convattn.analysis.overlay import Overlay
from convattn.layers.classifier import Classifier
from convattn.layers.normalization import BatchNorm, LayerNorm


@dataclasses.dataclass(frozen=True, eq=False)
class ClassMap(Overlay):
  """`values` are parts of a logit: values.sum((1, 2)) + rest = logits.

  Attributes:
    logits: float32 [b], of each image's class.
    rest: float32 [b], what no cell contributes: biases.
  """

  logits: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
  rest: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))


def class_map(model: nn.Module, variables: Any, images: Any, classes: Any = None) -> ClassMap:
  """Each cell's part of a class's logit, for a model that ends in a `layers.Classifier`.

      logit = sum_p values[p] + rest

  With F [p, c] the image that the classifier is given, n its cells, s and β the norm's scale and bias, and W [c] and b
  the class's part of the last dense layer,

      norm_first:  values[p] = 1/n sum_c W_c (norm(F[p]) - β)_c
      plain:       values[p] = 1/n sum_c W_c s_c (F[p, c] - mean_c F[p]) / deviation     (BatchNorm: its own statistics)
      both:        rest = b + sum_c W_c β_c

  "plain" normalises the mean over the cells: its deviation is one number for the image, and given that number all else
  is linear in the cells. Behind the same two steps "tanh" has a dense layer (W', b') and a tanh, whose slope from 0,
  tanh(h) / h, is taken for a number of the image as well, so that W becomes W' (tanh(h) / h) W, and the parts still
  sum to the logit. But h depends on all cells at once, another division would be as good, and so `exact` is False
  (DeepLIFT's rescale rule, Shrikumar et al. 2017).

  Source: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016 (class activation maps), with
  the norm followed through.

  Args:
    images: floating point [b, h, w, c], as the model takes them.
    classes: a class for all images, or integers [b]; None: those that the model predicts.

  Raises:
    ValueError: images or classes that do not fit, a model without such a classifier, or a norm that is neither
      LayerNorm nor BatchNorm.
  """
  images = checked_images(images)
  head = _find_head(model, variables, images)
  chosen = chosen_classes(model, variables, images, classes)
  features = in_pieces(
    lambda images: _features(model, variables, images, path=head.path), images, pixels=pixels_of(images)
  )
  logits = np.asarray(head.classifier.apply(head.variables, features, train=False))
  values, rest = _divided(head, features.astype(np.float64), chosen)
  return ClassMap(
    name="class map",
    grid=head.grid,
    values=values.reshape(features.shape[:3]).astype(np.float32),
    note="what each cell of the last map adds to the class's logit"
    + (", with tanh as a line from 0" if head.classifier.kind == "tanh" else ""),
    exact=head.classifier.kind != "tanh",
    classes=chosen,
    logits=np.take_along_axis(logits, chosen[:, None], 1)[:, 0],
    rest=rest.astype(np.float32),
  )


@dataclasses.dataclass(frozen=True)
class _Head:
  """A model's classifier with its variables; its path, the cells that it is given, and its norm."""

  path: Path
  grid: Grid
  classifier: Classifier
  variables: Any
  norm: BatchNorm | LayerNorm

  def wide(self, *path: str, collection: str = "params") -> np.ndarray:
    """One of its arrays, in float64."""
    return np.asarray(_below(self.variables[collection], path), np.float64)

  def scaled(self, x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The norm of x without its bias, with the deviation that `at` has; both [..., c]."""
    if isinstance(self.norm, BatchNorm):
      mean, variance = (self.wide("norm", name, collection="batch_stats") for name in ("mean", "var"))
    else:
      mean, variance = x.mean(-1, keepdims=True), at.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + self.norm.epsilon) * self.wide("norm", "scale")


def _find_head(model: nn.Module, variables: Any, images: np.ndarray) -> _Head:
  found: list[tuple[Classifier, Any]] = []
  modules: dict[Path, nn.Module] = {}

  def see(context: Context, arguments: Any, output: Any, following: Following) -> None:
    module = context.module
    modules[module.path] = module
    if isinstance(module, Classifier):
      found.append((module, following.grids[module.path][-1]))

  traced(model, variables, images, see)
  if not found or not found[-1][0].num_classes:
    raise ValueError(f"class_map needs a model that ends in a layers.Classifier with classes; {_name(model)} does not.")
  classifier, grid = found[-1]
  norm = modules[(*classifier.path, "norm")]
  if not isinstance(norm, BatchNorm | LayerNorm):
    raise ValueError(f"class_map knows the norms LayerNorm and BatchNorm, but the classifier has {_name(norm)}.")
  own = {collection: _below(tree, classifier.path) for collection, tree in variables.items()}
  # Outside the trace it is a module of its own.
  return _Head(classifier.path, grid, classifier.clone(parent=None, name=None), own, norm)


def _below(tree: Any, path: Path) -> Any:
  for name in path:
    tree = tree.get(name, {})
  return tree


def _name(module: nn.Module) -> str:
  return type(module).__name__


@compiled("path")
def _features(model: nn.Module, variables: Any, images: jax.Array, *, path: Path) -> jax.Array:
  """float32 [b, h, w, c]: what the module of this path is given."""
  given: list[jax.Array] = []

  def see(context: Context, arguments: Any, output: Any) -> Any:
    if context.module.path == path:
      given.append(arguments[0])
    return output

  intercepted(model, variables, images, see)
  return given[-1].astype(jnp.float32)


def _divided(head: _Head, features: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(parts of the logit [b, cells], the rest [b]) of float64 features [b, h, w, c]."""
  x = features.reshape(len(features), -1, features.shape[-1])
  at = x if head.classifier.kind == "norm_first" else x.mean(1, keepdims=True)
  y = head.scaled(x, at)
  beta, kernel, bias = head.wide("norm", "bias"), head.wide("logits", "kernel"), head.wide("logits", "bias")
  towards, rest = kernel[:, classes].T, bias[classes]  # [b, c], [b]
  if head.classifier.kind == "tanh":
    kernel, bias = head.wide("hidden", "kernel"), head.wide("hidden", "bias")
    h = (y.mean(1) + beta) @ kernel + bias
    slopes = towards * np.divide(np.tanh(h), h, out=np.ones_like(h), where=h != 0)
    towards, rest = slopes @ kernel.T, rest + slopes @ bias
  return np.einsum("bpc,bc->bp", y, towards) / x.shape[1], rest + towards @ beta
