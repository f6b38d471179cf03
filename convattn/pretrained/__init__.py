"""Other people's weights into our variables, and back; our variables for other image sizes and classes.

Names are fetched on first use, so that what only decodes pictures does not import jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from convattn.pretrained.files import find_weights, read_safetensors
  from convattn.pretrained.head_replacement import replace_head
  from convattn.pretrained.loading import load
  from convattn.pretrained.pictures import Preprocessing, decode_picture, open_picture
  from convattn.pretrained.resizing import resize
  from convattn.pretrained.tags import class_names, preprocessing, synset_names
  from convattn.pretrained.timm import from_timm, to_timm

_HOMES = {
  "Preprocessing": "pictures",
  "class_names": "tags",
  "decode_picture": "pictures",
  "find_weights": "files",
  "from_timm": "timm",
  "load": "loading",
  "open_picture": "pictures",
  "preprocessing": "tags",
  "read_safetensors": "files",
  "replace_head": "head_replacement",
  "resize": "resizing",
  "synset_names": "tags",
  "to_timm": "timm",
}

__all__ = [
  "Preprocessing",
  "class_names",
  "decode_picture",
  "find_weights",
  "from_timm",
  "load",
  "open_picture",
  "preprocessing",
  "read_safetensors",
  "replace_head",
  "resize",
  "synset_names",
  "to_timm",
]


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}.")
  return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
  return sorted(__all__)
