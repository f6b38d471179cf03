"""The export command: a checkpoint or released weights as one file that runs wherever JAX is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convattn.commands.memory import naming_a_lack_of_memory
from convattn.commands.options import named_options, output_file, pixels, split_options
from convattn.errors import UserError

_HELP = """convattn export --checkpoint=DIR|TAG --out=FILE [--weights=averaged|raw] [--image_size=H|HxW|any]
                [--platforms=cpu,cuda,tpu]

  --checkpoint  a run's workdir (its newest checkpoint), the folder of one checkpoint, or a tag of released weights
                such as coatnet_0_rw_224.sw_in1k
  --weights     averaged or raw (of the last update); by default averaged where the run keeps averages
  --out         the program goes here, such as model.stablehlo; its class names, preprocessing and versions go beside
                it as model.json
  --image_size  pixels, one number or height x width (default: what the weights were made for; for other sizes bias
                tables are resized bilinearly), or any: every size that the model's stride divides, for a model
                without bias tables
  --platforms   where the program shall run

The program takes uint8 pixels [b, h, w, c], any number b of pictures, and gives float32 logits [b, classes]. Mean and
std are inside, resizing and cropping are not. Any Python with JAX runs it:

  jax.export.deserialize(bytearray(open("model.stablehlo", "rb").read())).call(pixels)"""


@naming_a_lack_of_memory("lower --image_size.")
def run(arguments: Sequence[str]) -> None:
  """Writes the program and its description, and prints what they are.

  Raises:
    UserError: a wrong argument, path or checkpoint, or a file that cannot be written.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP)
    return
  values = named_options(split_options(arguments), ("checkpoint", "out", "weights", "image_size", "platforms"))
  if "checkpoint" not in values:
    raise UserError("which model? --checkpoint=DIR|TAG, such as --checkpoint=runs/digits.")
  if "out" not in values:
    raise UserError("where to? --out=FILE, such as --out=model.stablehlo.")
  out = output_file("out", values["out"])
  request: dict[str, Any] = {}
  if "image_size" in values:
    text = values["image_size"]
    request["image_size"] = text if text == "any" else pixels("image_size", text)
  if "platforms" in values:
    request["platforms"] = tuple(values["platforms"].split(","))
  # Imported here: --help and mistakes do without.
  from convattn import inference
  from convattn.inference.exporting import description_path

  description_path(out)
  restored = inference.restore_classifier(values["checkpoint"], weights=values.get("weights"))
  artifact = inference.export_classifier(restored, **request)
  path, beside = artifact.write(out)
  print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")
  print(f"{beside}  class names, preprocessing, versions")
  description = artifact.description
  print(f"source     {restored.title}")
  print(f"platforms  {', '.join(description['platforms'])}")
  for side in ("input", "output"):
    shape = ", ".join(map(str, description[side]["shape"]))
    print(f"{side:<9}  {description[side]['name']} {description[side]['dtype']} [{shape}]")
