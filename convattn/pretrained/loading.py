"""timm's trained CoAtNets by tag, ready to use."""

from __future__ import annotations

from convattn.errors import UserError
from convattn.models.coatnet import CoAtNet
from convattn.models.create import create_model
from convattn.pretrained.files import cached_weights, find_weights
from convattn.pretrained.pictures import Preprocessing
from convattn.pretrained.tags import find_tags, nearest_trained
from convattn.pretrained.timm import from_timm


def load(tag: str) -> tuple[CoAtNet, dict, Preprocessing]:
  """A trained model: (model, variables, preprocessing), such as of "coatnet_0_rw_224.sw_in1k".

      logits = model.apply(variables, preprocessing(picture)[None], train=False)

  The file is looked for in the Hugging Face cache, and downloaded where it is not. The number of classes is the file's.
  Without a suffix the architecture must have one set of weights only.

  Raises:
    UserError: no such tag; several for a bare architecture; nobody has published trained weights of it; the file is
      neither here nor to be had, with the address and the place for it; or it is damaged or of another architecture.
  """
  rows = find_tags(tag)
  if len(rows) > 1:
    raise UserError(f"{tag!r} has several weights; name one of {', '.join(row.name for row in rows)}.")
  (row,) = rows
  if not row.trained:
    own = cached_weights(row.name) or cached_weights(row.architecture)
    raise UserError(
      f"nobody has published trained weights of {row.architecture!r}; the nearest that are trained: "
      f"{', '.join(nearest_trained(row.architecture))}. For weights of your own, call "
      f"convattn.pretrained.from_timm({row.architecture!r}, {str(own or 'PATH')!r})."
    )
  variables = from_timm(row.architecture, find_weights(row.name))
  num_classes = variables["params"]["classifier"]["logits"]["bias"].shape[0]
  return create_model(row.architecture, num_classes), variables, row.preprocessing
