"""How long the explore page takes to draw all of its maps anew, in a headless Chromium.

    python -m benchmarks.explore_redraw explore.html [--repeats=30]

The pointer is moved over pixels of the picture; a line for each direction and mean has the median and the longest of so
many times in milliseconds, from the move until everything is drawn. docs/explore.md says what it came to.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from tests.viz.browsing import launched

VIEWS = {
  "what a pixel looks at": {"direction": "out", "average": "one", "at": [0, 0]},
  "who looks at a pixel": {"direction": "in", "average": "one", "at": [0, 0]},
  "what it looks at, mean of the images": {"direction": "out", "average": "mean", "at": [0, 0]},
  "who looks at it, mean of the images": {"direction": "in", "average": "mean", "at": [0, 0]},
}
TIMES = """async ([patch, repeats]) => {
  const { app, draw } = convattn;
  app.set(patch);
  const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  await frame();
  const times = [];
  for (let i = 0; i < repeats; i++) {
    app.preview([(i * 7) % app.size[0], (i * 13) % app.size[1]]);
    const start = performance.now();
    draw();
    times.push(performance.now() - start);
    await frame();
  }
  return times;
}"""


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("page", type=Path)
  parser.add_argument("--repeats", type=int, default=30)
  arguments = parser.parse_args()
  with launched() as browser:
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(arguments.page.absolute().as_uri())
    tab.locator('.tile[aria-checked="true"]').wait_for()
    print(f"{tab.locator('.tile').count()} maps")
    for name, patch in VIEWS.items():
      times = tab.evaluate(TIMES, [patch, arguments.repeats])
      print(f"{name}: {statistics.median(times):.0f} ms, longest {max(times):.0f} ms")


if __name__ == "__main__":
  main()
