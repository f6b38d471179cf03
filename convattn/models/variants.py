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


def _layout_28(layout: str) -> Spec:
  """A layout for 28x28 pixels: grids of 14, 14, 7 and 4 behind a stem at full size, heads of 16 for widths from 48."""
  rows = zip(layout, (1, 2, 2, 1), (32, 48, 96, 128), (2, 1, 2, 2), strict=True)
  stages_of_layout = tuple(Stage((Run(block, depth, width),), stride) for block, depth, width, stride in rows)
  return Spec(stages_of_layout, (24, 24), stem_stride=1, head_size=16)


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
  # Attention sees all 8x8 pixels: nothing strides. Four attention layers with four heads of 16 each.
  "coatnet_mini_8x8": Spec(
    (
      Stage((Run("C", 1, 48),), 1),
      Stage((Run("C", 1, 64),), 1),
      Stage((Run("T", 2, 64),), 1),
      Stage((Run("T", 2, 64),), 1),
    ),
    (32, 64),
    stem_stride=1,
    conv_stride="depthwise",
    head_size=16,
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
  **{f"layout_{layout.lower()}_28": _layout_28(layout) for layout in ("CCCC", "CCCT", "CCTT", "CTTT")},
  # Patches of 4x4 pixels: 7x7 of them, and as many parameters as the layouts have.
  "vit_rel_28": Spec((Stage((Run("T", 4, 96),), stride=1),), (96,), stem_kernel=4, stem_stride=4, head_size=16),
}


def _flat(block: str, **fields: Any) -> Spec:
  """Blocks of 32 channels, a letter each, one after another at one resolution."""
  return Spec((Stage(tuple(Run(letter, 1, 32) for letter in block), 1),), head_size=16, head="plain", **fields)


# Two blocks on patches of 4x4 pixels: each convolution sees one patch more on each side, attention all of them.
_PATCHES = {
  f"patch_{blocks.lower()}": _flat(blocks, stem_widths=(32,), stem_kernel=4, stem_stride=4)
  for blocks in ("CC", "CT", "TT")
}

# For pictures of one row, such as the 40 points of MNIST-1D. In row_d each pixel sees itself and up to 62 before it.
_ROWS = {
  f"row_{blocks.lower()}": _flat(blocks, stem_widths=(32, 32), stem_stride=2) for blocks in ("CCCC", "CCTT", "TTTT")
} | {
  "row_d": _flat("D", stem_widths=(32,), stem_kernel=1, stem_stride=1),
  "row_dt": _flat("DT", stem_widths=(32,), stem_kernel=1, stem_stride=1, causal_depth=3),
}

VARIANTS: dict[str, Spec] = {**_PAPER, **TIMM_VARIANTS, **_LAYOUTS, **_SMALL, **_PATCHES, **_ROWS}
