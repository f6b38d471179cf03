"""Every model by name: a row of data each."""

from __future__ import annotations

from typing import Any

from convattn.models.spec import Run, Spec, Stage, stages
from convattn.models.timm_variants import TIMM_VARIANTS


def _coatnet(stem: int, depths: tuple[int, ...], widths: tuple[int, ...], layout: str = "CCTT", **fields: Any) -> Spec:
  """Two stem convolutions of width `stem` and the stages of a layout (Dai et al. 2021, Table 3)."""
  return Spec(stages(layout, depths, widths), (stem, stem), **fields)


def _mixed(stem: int, rows: tuple[tuple[int, int], ...], **fields: Any) -> Spec:
  """CoAtNet-6 and -7 (Table 12): the third stage is MBConv, then Transformer at twice the width, both at stride 16."""
  s1, s2, s3_conv, s3_attention, s4 = rows
  rows_of_stages = (
    Stage((Run("C", *s1),)),
    Stage((Run("C", *s2),)),
    Stage((Run("C", *s3_conv), Run("T", *s3_attention))),
    Stage((Run("T", *s4),)),
  )
  return Spec(rows_of_stages, (stem, stem), **fields)


# Dai et al. 2021, Tables 3, 11 and 12. coatnet_6 follows the table; with a last width of 3072 in place of 2048 it
# would have the 1.47 B parameters that the text reports.
_PAPER = {
  "coatnet_0": _coatnet(64, (2, 3, 5, 2), (96, 192, 384, 768)),
  "coatnet_1": _coatnet(64, (2, 6, 14, 2), (96, 192, 384, 768)),
  "coatnet_2": _coatnet(128, (2, 6, 14, 2), (128, 256, 512, 1024)),
  "coatnet_3": _coatnet(192, (2, 6, 14, 2), (192, 384, 768, 1536)),
  "coatnet_4": _coatnet(192, (2, 12, 28, 2), (192, 384, 768, 1536)),
  "coatnet_5": _coatnet(192, (2, 12, 28, 2), (256, 512, 1280, 2048), head_size=64),
  "coatnet_6": _mixed(192, ((2, 192), (4, 384), (8, 768), (42, 1536), (2, 2048)), head_size=128),
  "coatnet_7": _mixed(192, ((2, 256), (4, 512), (8, 1024), (42, 2048), (2, 3072)), head_size=128),
}

# The layouts compared in section 3.1 of the paper, with the depths and widths of CoAtNet-0: the paper matches their
# sizes without printing them. vit_rel is its ViT with relative attention: patches of 16x16, one stage; ours has
# ViT-S/16's size.
_LAYOUTS = {
  f"layout_{layout.lower()}": _coatnet(64, (2, 3, 5, 2), (96, 192, 384, 768), layout)
  for layout in ("CCCC", "CCCT", "CCTT", "CTTT")
} | {"vit_rel": Spec((Stage((Run("T", 12, 384),), stride=1),), (384,), stem_kernel=16, stem_stride=16)}

# Small models for small images; the number is the image size they are made for. Attention sees 4x4 pixels or more.
_SMALL = {
  "coatnet_mini_8": Spec(
    (
      Stage((Run("C", 1, 48),), 2),
      Stage((Run("C", 1, 64),), 1),
      Stage((Run("T", 1, 96),), 1),
      Stage((Run("T", 1, 96),), 1),
    ),
    (32, 64),
    stem_stride=1,
    conv_stride="depthwise",
  ),
  "coatnet_mini_28": Spec(
    (
      Stage((Run("C", 1, 96),), 2),
      Stage((Run("C", 2, 96),), 2),
      Stage((Run("T", 2, 128),), 1),
      Stage((Run("T", 1, 128),), 2),
    ),
    (16, 32),
    stem_stride=1,
    conv_expansion=2,
  ),
  "coatnet_mini_32": Spec(
    (
      Stage((Run("C", 2, 64),), 1),
      Stage((Run("C", 2, 128),), 2),
      Stage((Run("T", 3, 256),), 2),
      Stage((Run("T", 2, 512),), 2),
    ),
    (48, 48),
    stem_stride=1,
  ),
}

VARIANTS: dict[str, Spec] = {**_PAPER, **TIMM_VARIANTS, **_LAYOUTS, **_SMALL}
