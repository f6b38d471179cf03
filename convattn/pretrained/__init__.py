"""Other people's weights into our variables, and back; our variables for other image sizes."""

from convattn.pretrained.resize import resize
from convattn.pretrained.timm import from_timm, to_timm

__all__ = ["from_timm", "resize", "to_timm"]
