"""timm's CoAtNets by tag: who has been trained on what, and the preprocessing that belongs to the weights.

A tag is an architecture's name and, behind a dot, the weights': "coatnet_0_rw_224.sw_in1k". Source: timm 1.0's maxxvit
models, their default configurations and published results.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.resources
from typing import Any

from convattn.errors import UserError, nearest
from convattn.pretrained.pictures import Preprocessing

_SIZES = ("pico", "nano", "0", "1", "2", "3", "4", "5")
_HALF = (0.5, 0.5, 0.5)
_CROP_95 = Preprocessing((224, 224), _HALF, _HALF, crop_fraction=0.95, crop_mode="center")
_CROP_90 = dataclasses.replace(_CROP_95, crop_fraction=0.9)
_CROP_95_IMAGENET = dataclasses.replace(_CROP_95, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_SQUASH_384 = Preprocessing((384, 384), _HALF, _HALF, crop_fraction=1.0, crop_mode="squash")
_CROP_95_OF_160 = dataclasses.replace(_CROP_95, image_size=(160, 160))


@dataclasses.dataclass(frozen=True)
class Tag:
  """One row of the table.

  Attributes:
    name: architecture.weights; ".untrained" where nobody has published any.
    preprocessing: what the weights expect.
    accuracy: top-1 on ImageNet-1k's validation images in percent, as timm reports it; None for another head or no
      weights.
    num_classes: of the published head: ImageNet-1k's 1000, or timm's 11821 of ImageNet-12k.
  """

  name: str
  preprocessing: Preprocessing
  accuracy: float | None = None
  num_classes: int = 1000

  @property
  def architecture(self) -> str:
    return self.name.partition(".")[0]

  @property
  def trained(self) -> bool:
    return not self.name.endswith(".untrained")


TAGS = (
  Tag("coatnet_pico_rw_224.untrained", _CROP_95),
  Tag("coatnet_nano_rw_224.sw_in1k", _CROP_90, 81.70),
  Tag("coatnet_0_rw_224.sw_in1k", _CROP_95, 82.40),
  Tag("coatnet_1_rw_224.sw_in1k", _CROP_95, 83.62),
  Tag("coatnet_2_rw_224.sw_in12k_ft_in1k", _CROP_95, 86.58),
  Tag("coatnet_2_rw_224.sw_in12k", _CROP_95, num_classes=11821),
  Tag("coatnet_3_rw_224.sw_in12k", _CROP_95, num_classes=11821),
  Tag("coatnet_bn_0_rw_224.sw_in1k", _CROP_95_IMAGENET, 82.39),
  Tag("coatnet_rmlp_nano_rw_224.sw_in1k", _CROP_90, 82.06),
  Tag("coatnet_rmlp_0_rw_224.untrained", _CROP_95),
  Tag("coatnet_rmlp_1_rw_224.sw_in1k", _CROP_95, 83.35),
  Tag("coatnet_rmlp_1_rw2_224.sw_in12k_ft_in1k", _CROP_95, 84.94),
  Tag("coatnet_rmlp_1_rw2_224.sw_in12k", _CROP_95, num_classes=11821),
  Tag("coatnet_rmlp_2_rw_224.sw_in12k_ft_in1k", _CROP_95, 86.54),
  Tag("coatnet_rmlp_2_rw_224.sw_in1k", _CROP_95, 84.61),
  Tag("coatnet_rmlp_2_rw_224.sw_in12k", _CROP_95, num_classes=11821),
  Tag("coatnet_rmlp_2_rw_384.sw_in12k_ft_in1k", _SQUASH_384, 87.39),
  Tag("coatnet_rmlp_3_rw_224.untrained", _CROP_95),
  Tag("coatnet_nano_cc_224.untrained", _CROP_95),
  Tag("coatnext_nano_rw_224.sw_in1k", _CROP_90, 82.00),
  Tag("coatnet_0_224.untrained", _CROP_95),
  Tag("coatnet_1_224.untrained", _CROP_95),
  Tag("coatnet_2_224.untrained", _CROP_95),
  Tag("coatnet_3_224.untrained", _CROP_95),
  Tag("coatnet_4_224.untrained", _CROP_95),
  Tag("coatnet_5_224.untrained", _CROP_95),
  Tag("test_coatnet.untrained", _CROP_95_OF_160),
)


def preprocessing(tag: str) -> Preprocessing:
  """What timm does to a picture in front of the weights of that tag.

  Raises:
    UserError: no such tag, with the nearest; or a bare architecture whose tags differ in it.
  """
  return _agreed(tag, "preprocessing")


def class_names(tag: str) -> tuple[str, ...]:
  """The name of each logit: ImageNet-1k's in timm's order (sorted by WordNet id), each once.

  timm's ImageNet-12k heads get "imagenet12k_0" and so on.

  Raises:
    UserError: no such tag, with the nearest; or a bare architecture whose tags differ in their number of classes.
  """
  count = _agreed(tag, "num_classes")
  return tuple(synset_names().values()) if count == 1000 else tuple(f"imagenet12k_{i}" for i in range(count))


def synset_names() -> dict[str, str]:
  """ImageNet-1k's classes in label order: WordNet id, such as "n01440764" -> its first lemma, "tench".

  Two pairs of classes share their first lemma; they carry their id too: "crane (n02012849)".
  """
  lines = (importlib.resources.files("convattn.pretrained") / "imagenet.txt").read_text(encoding="utf-8").splitlines()
  names = dict(line.split(" ", 1) for line in lines)
  lemmas = list(names.values())
  return {synset: f"{name} ({synset})" if lemmas.count(name) > 1 else name for synset, name in names.items()}


def find_tags(tag: str) -> tuple[Tag, ...]:
  """The row of a tag, or all rows of a bare architecture. Raises ValueError for neither, with the nearest."""
  found = tuple(row for row in TAGS if tag in (row.name, row.architecture))
  if not found:
    known = [*(row.name for row in TAGS), *(row.architecture for row in TAGS)]
    meant = ", ".join(nearest(tag, dict.fromkeys(known)))
    raise UserError(f"timm has no CoAtNet {tag!r}; did you mean {meant}?")
  return found


def nearest_trained(architecture: str) -> list[str]:
  """The three tags with published weights whose architecture is nearest in size and family, by its name."""
  size, family = _size_and_family(architecture)

  def distance(row: Tag) -> tuple[int, float]:
    its_size, its_family = _size_and_family(row.architecture)
    unlike = 1 - difflib.SequenceMatcher(None, architecture, row.architecture).ratio()
    return abs(size - its_size) + len(family ^ its_family), unlike

  return [row.name for row in sorted((row for row in TAGS if row.trained), key=distance)[:3]]


def _size_and_family(architecture: str) -> tuple[int, set[str]]:
  """The place of the name's size among all, and the other parts of the name; without a size, as the smallest."""
  parts = architecture.split("_")
  sizes = [_SIZES.index(part) for part in parts if part in _SIZES]
  return sizes[0] if sizes else 0, set(parts) - set(_SIZES)


def _agreed(tag: str, field: str) -> Any:
  rows = find_tags(tag)
  if len({getattr(row, field) for row in rows}) > 1:
    raise UserError(f"{tag!r} has several weights, which differ in {field}; name {' or '.join(r.name for r in rows)}.")
  return getattr(rows[0], field)
