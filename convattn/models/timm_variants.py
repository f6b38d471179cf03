"""timm's CoAtNets by timm's names: what each decides otherwise than the paper, as data.

Source: timm's maxxvit models, version 1.0 (Apache-2.0).
"""

from __future__ import annotations

from typing import Any

from convattn.models.spec import Spec, stages

# Widths of the four stages; the names count up with them.
_NANO, _0, _2, _3 = (tuple(width * 2**i for i in range(4)) for width in (64, 96, 128, 192))
_5 = (256, 512, 1280, 2048)

# In all of them a mean in front of a strided stage.
_ALL: dict[str, Any] = {"pool": "avg", "conv_stride": "depthwise"}

# The `_rw` models: MBConv expands from its input and squeezes what is expanded, attention is as wide as its input, and
# the classifier is a norm over the image, the mean, and a dense layer.
_RW = _ALL | {
  "conv_activation": "silu",
  "conv_expand_from": "input",
  "squeeze_from": "expanded",
  "attention_width_from": "input",
  "head": "norm_first",
}
# The larger of them go without biases in MBConv, and activate its first norm too.
_COAT = _RW | {"conv_pre_norm_activation": True, "conv_bias": False}
_RELU = _COAT | {"squeeze_activation": "relu"}
_EARLY = _RELU | {"squeeze_at": "before", "attention_shortcut_bias": False}
_MLP: dict[str, Any] = {"relative_position": "mlp", "relative_dropout": 0.125}
_SCALED: dict[str, Any] = {"attention_layer_scale": 1e-6}


def _paper_like(stem: int, depths: tuple[int, ...], widths: tuple[int, ...]) -> Spec:
  return Spec(stages("CCTT", depths, widths), (stem, stem), **_ALL)


def _rw(depths: tuple[int, ...], widths: tuple[int, ...], *groups: dict[str, Any], layout: Any = "CCTT") -> Spec:
  fields = {name: value for group in groups for name, value in group.items()}
  # The stem is as wide as the first stage of the next smaller model, but never narrower than (32, 64).
  stem = max(64, {64: 64, 96: 64}.get(widths[0], widths[0]))
  return Spec(stages(layout, depths, widths), (stem // 2, stem), **fields)


_POOL = {"conv_stride": "pool"}

TIMM_VARIANTS: dict[str, Spec] = {
  "coatnet_pico_rw_224": _rw((2, 3, 5, 2), _NANO, _RW),
  "coatnet_nano_rw_224": _rw((3, 4, 6, 3), _NANO, _RW, _POOL),
  "coatnet_0_rw_224": _rw((2, 3, 7, 2), _0, _EARLY, _POOL),
  "coatnet_1_rw_224": _rw((2, 6, 14, 2), _0, _EARLY),
  "coatnet_2_rw_224": _rw((2, 6, 14, 2), _2, _COAT),
  "coatnet_3_rw_224": _rw((2, 6, 14, 2), _3, _COAT, _SCALED),
  "coatnet_bn_0_rw_224": _rw((2, 3, 7, 2), _0, _EARLY, {"attention_norm": "batch"}),
  "coatnet_rmlp_nano_rw_224": _rw((3, 4, 6, 3), _NANO, _RW, _MLP, {"relative_hidden": 384}),
  "coatnet_rmlp_0_rw_224": _rw((2, 3, 7, 2), _0, _RELU, _MLP),
  "coatnet_rmlp_1_rw_224": _rw((2, 6, 14, 2), _0, _EARLY, _POOL, _MLP, {"relative_hidden": 384, "pool": "max3x3"}),
  "coatnet_rmlp_1_rw2_224": _rw((2, 6, 14, 2), _0, _RELU, _MLP),
  "coatnet_rmlp_2_rw_224": _rw((2, 6, 14, 2), _2, _COAT, _MLP, _SCALED),
  "coatnet_rmlp_2_rw_384": _rw((2, 6, 14, 2), _2, _COAT, _MLP, _SCALED),
  "coatnet_rmlp_3_rw_224": _rw((2, 6, 14, 2), _3, _COAT, _MLP, _SCALED),
  "coatnet_nano_cc_224": _rw((3, 4, 6, 3), _NANO, _RELU, _POOL, layout=("C", "C", "CT", "CT")),
  "coatnext_nano_rw_224": _rw(
    (3, 4, 6, 3),
    _NANO,
    _RW,
    {"conv_activation": "gelu", "conv_norm": "layer", "conv_norm_epsilon": 1e-6, "conv_layer_scale": 1e-5},
    layout="XXTT",
  ),
  "coatnet_0_224": _paper_like(64, (2, 3, 5, 2), _0),
  "coatnet_1_224": _paper_like(64, (2, 6, 14, 2), _0),
  "coatnet_2_224": _paper_like(128, (2, 6, 14, 2), _2),
  "coatnet_3_224": _paper_like(192, (2, 6, 14, 2), _3),
  "coatnet_4_224": _paper_like(192, (2, 12, 28, 2), _3),
  "coatnet_5_224": _paper_like(192, (2, 12, 28, 2), _5),
  "test_coatnet": Spec(stages("CCTT", (1, 1, 2, 1), (32, 64, 96, 128)), (16, 32), **(_RW | _POOL)),
}
"""Every architecture of timm's with its image size; the same spec at another size is the same model."""
