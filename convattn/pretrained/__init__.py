"""Other people's weights into our variables, and back; our variables for other image sizes and classes.

Names are fetched on first use, so that what only decodes pictures does not import jax.
"""

from typing import TYPE_CHECKING

from convattn.lazy import lazy_names

if TYPE_CHECKING:
  from convattn.pretrained.channels import adapt_channels as adapt_channels
  from convattn.pretrained.files import find_weights as find_weights, read_safetensors as read_safetensors
  from convattn.pretrained.head_replacement import replace_head as replace_head
  from convattn.pretrained.loading import load as load
  from convattn.pretrained.picture_files import decode_picture as decode_picture, open_picture as open_picture
  from convattn.pretrained.pictures import Preprocessing as Preprocessing
  from convattn.pretrained.resizing import resize as resize
  from convattn.pretrained.tags import (
    class_names as class_names,
    preprocessing as preprocessing,
    synset_names as synset_names,
  )
  from convattn.pretrained.timm import from_timm as from_timm, to_timm as to_timm

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    "channels": "adapt_channels",
    "files": "find_weights read_safetensors",
    "head_replacement": "replace_head",
    "loading": "load",
    "picture_files": "decode_picture open_picture",
    "pictures": "Preprocessing",
    "resizing": "resize",
    "tags": "class_names preprocessing synset_names",
    "timm": "from_timm to_timm",
  },
)
