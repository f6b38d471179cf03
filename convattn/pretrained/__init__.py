"""Other people's weights into our variables, and back; our variables for other image sizes and classes."""

from convattn.pretrained.files import find_weights, read_safetensors
from convattn.pretrained.heads import replace_head
from convattn.pretrained.loading import load
from convattn.pretrained.pictures import Preprocessing, open_picture
from convattn.pretrained.resize import resize
from convattn.pretrained.tags import class_names, preprocessing, synset_names
from convattn.pretrained.timm import from_timm, to_timm

__all__ = [
  "Preprocessing",
  "class_names",
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
