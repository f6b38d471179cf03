"""A trained classifier as one StableHLO program, for other programs that have JAX and not this package."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from jax import export

from convattn import pretrained
from convattn.errors import UserError, one_line
from convattn.files import takes_a_stream, write_whole
from convattn.inference.logits import forward
from convattn.training.restoring import Classifier

PLATFORMS = ("cpu", "cuda", "tpu")

_MOST_BYTES = 2**31 - 2**24
"""The serialized form, a flatbuffer, holds 2 GiB; what is no parameter takes a few MiB."""


@dataclasses.dataclass(frozen=True, eq=False)
class Artifact:
  """A program of jax.export, pixels uint8 [b, h, w, c] -> logits float32 [b, classes] for any b, and its description.

  Attributes:
    exported: `exported.call(pixels)` runs it; `exported.serialize()` is what `write` writes.
    description: JSON: source, input, output, platforms, class names, preprocessing, versions. The preprocessing's mean
      and std are in the program, its resizing and cropping are not.
  """

  exported: export.Exported
  description: dict[str, Any]

  def write(self, path: Path) -> tuple[Path, Path]:
    """Writes the program to `path` and the description beside it, with the suffix .json; returns both paths.

    Whoever looks sees a whole file or none; files of these names are replaced.

    Raises:
      UserError: `path` ends in .json itself, or is a pipe or device, which nothing lies beside.
      OSError: it cannot be written.
    """
    beside = description_path(path)
    description = json.dumps({"artifact": path.name, **self.description}, indent=2, allow_nan=False) + "\n"
    write_whole({beside: description.encode(), path: bytes(self.exported.serialize())})
    return path, beside


def description_path(path: Path) -> Path:
  """Where the description of the artifact at `path` goes; raises as `Artifact.write` does."""
  beside = path.with_suffix(".json")
  if beside == path:
    raise UserError(f"the artifact cannot be {path}, where its description goes; choose another suffix.")
  if takes_a_stream(path):
    raise UserError(f"the artifact cannot be {path}, since its description goes beside it; name a file.")
  return beside


def export_classifier(
  restored: Classifier,
  *,
  image_size: tuple[int, int] | Literal["any"] | None = None,
  platforms: Sequence[str] = PLATFORMS,
) -> Artifact:
  """The classifier with its variables and its normalisation of pixels as one program for several platforms.

  Each platform gets the lowerings that are meant for it (`lax.platform_dependent`), wherever the export happens. The
  products' precision: see `logits.forward`.

  Args:
    restored: see `training.restore_classifier`.
    image_size: (height, width) in pixels; None: what the variables were made for. Bias tables are resized bilinearly,
      unless the model resizes its own. "any": the program takes every size that the model's stride divides.
    platforms: some of PLATFORMS.

  Raises:
    UserError: no platform, an unknown one or one twice; variables too large for the format; or "any" of a model whose
      parameters belong to one size.
  """
  _check_platforms(platforms)
  count = sum(leaf.nbytes for leaf in jax.tree.leaves(restored.variables))
  if count > _MOST_BYTES:
    raise UserError(f"the variables take {count / 2**30:.1f} GiB, but the artifact's format holds less than 2 GiB.")
  model, preprocessing, variables = restored.model, restored.preprocessing, restored.variables
  spec = getattr(model, "spec", None)
  stride = getattr(spec, "stride", 1)
  sizes: tuple[Any, ...] = (f"{stride}*h", f"{stride}*w")
  if image_size == "any" and _has_tables(variables):
    raise UserError("no program of this model takes images of any size, since bias tables belong to one; export each.")
  if image_size != "any":
    preprocessing = preprocessing if image_size is None else dataclasses.replace(preprocessing, image_size=image_size)
    sizes = preprocessing.image_size
    if image_size and getattr(spec, "table_resize", "none") == "none" and _has_tables(variables):
      variables = pretrained.resize(model, variables, image_size)
  logits_of_variables = forward(restored)

  @jax.jit
  def logits(pixels: jax.Array) -> jax.Array:
    return logits_of_variables(variables, pixels).astype("float32")

  shape = export.symbolic_shape(", ".join(map(str, ("b", *sizes, len(preprocessing.mean)))))
  try:
    exported = export.export(logits, platforms=platforms)(jax.ShapeDtypeStruct(shape, "uint8"))
  except Exception as error:  # whatever a module does with a size that is not a number
    if image_size != "any":
      raise
    reason = one_line(error)
    raise UserError(f"no program of this model takes images of any size; export each ({reason}).") from error
  return Artifact(exported, _description(restored, preprocessing, exported))


def _has_tables(variables: dict[str, Any]) -> bool:
  paths = (path for path, _ in jax.tree_util.tree_leaves_with_path(variables))
  return any(jax.tree_util.keystr(path, simple=True, separator="/").endswith("/bias_table") for path in paths)


def _check_platforms(platforms: Sequence[str]) -> None:
  if not platforms or set(platforms) - set(PLATFORMS) or len(set(platforms)) < len(platforms):
    raise UserError(f"platforms are {', '.join(platforms) or 'none'}, but must be some of {', '.join(PLATFORMS)}.")


def _description(
  restored: Classifier, preprocessing: pretrained.Preprocessing, exported: export.Exported
) -> dict[str, Any]:
  def array(aval: jax.core.ShapedArray) -> dict[str, Any]:
    return {"dtype": aval.dtype.name, "shape": [size if isinstance(size, int) else str(size) for size in aval.shape]}

  return {
    "source": restored.source,
    "step": restored.step,
    "averaged": restored.averaged,
    "input": {"name": "pixels", **array(exported.in_avals[0])},
    "output": {"name": "logits", **array(exported.out_avals[0])},
    "platforms": list(exported.platforms),
    "class_names": list(restored.class_names),
    "preprocessing": preprocessing.as_json(),
    "jax_version": jax.__version__,
    "calling_convention_version": exported.calling_convention_version,
  }
