"""What a model in the page costs: its weights in MB, and the time of a forward pass in a headless Chromium.

    python -m benchmarks.page_model [NAME:SIZE ...] [--repeats=30]

Each is a model by name for grey images of SIZE x SIZE pixels and ten classes, untrained. A line has its parameters, the
arrays in the page in MB, the median and the longest of so many forward passes in milliseconds once the browser has
compiled them, the first one, and how far logits are from JAX's: with the weights as they travel, and with all digits.
docs/explore.md says what it came to.
"""

from __future__ import annotations

import argparse
import json
import statistics

import jax
import numpy as np

from convattn.models import create_model
from convattn.pretrained.pictures import Preprocessing
from convattn.viz.page_model import describe, in_page_precision
from tests.viz.browsing import launched
from tests.viz.served import served

MODELS = ("coatnet_mini_8:8", "coatnet_mini_28:28", "layout_cctt_28:28", "vit_rel_28:28")
WARM_UP = 20
TIMES = """async ([description, pixels, warmUp, repeats]) => {
  const [{ createModel }, { floats }] = await Promise.all([import("./model.js"), import("./unpack.js")]);
  const model = createModel(JSON.parse(description), floats);
  const image = Float32Array.from(pixels);
  const times = [];
  let logits;
  for (let i = 0; i < warmUp + repeats; i++) {
    const start = performance.now();
    ({ logits } = model.forward(image));
    times.push(performance.now() - start);
  }
  return [times[0], times.slice(warmUp), Array.from(logits)];
}"""


def measure(browser, name: str, size: int, repeats: int) -> str:
  model = create_model(name, 10)
  images = np.random.default_rng(0).normal(size=(1, size, size, 1)).astype(np.float32)
  variables = jax.jit(lambda key, x: model.init(key, x, train=False))(jax.random.key(0), images)
  described = describe(model, variables, images.shape[1:], Preprocessing(size, (0.5,), (0.5,)))
  with served(browser) as tab:
    arguments = [json.dumps(described.as_json), images.ravel().tolist(), WARM_UP, repeats]
    first, times, logits = tab.evaluate(TIMES, arguments)
  apply = jax.jit(lambda variables: model.apply(variables, images, train=False)[0])
  travelled, whole = (
    np.abs(np.subtract(logits, apply(each))).max() for each in (in_page_precision(variables), variables)
  )
  parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  return (
    f"{name}, {size} x {size}: {parameters:,} parameters, {described.megabytes:.2f} MB; "
    f"{statistics.median(times):.1f} ms, longest {max(times):.1f}, the first {first:.1f}; "
    f"logits differ by {travelled:.1e} and {whole:.1e}"
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("models", nargs="*", default=MODELS, metavar="NAME:SIZE")
  parser.add_argument("--repeats", type=int, default=30)
  arguments = parser.parse_args()
  with launched() as browser:
    for each in arguments.models:
      name, _, size = each.rpartition(":")
      print(measure(browser, name, int(size), arguments.repeats))


if __name__ == "__main__":
  main()
