"""Pictures of a page as people see it, for the docs.

    python -m tests.viz.screenshots explore.html docs/images [--hash='#at=3,4']

writes explore_desktop_light.png, explore_desktop_dark.png, explore_phone_light.png and explore_phone_dark.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.viz.browsing import launched

SIZES = {"desktop": {"width": 1280, "height": 1000}, "phone": {"width": 390, "height": 844}}
SCHEMES = ("light", "dark")


def take(browser, page: Path, folder: Path, hash: str = "") -> list[Path]:
  """The four pictures of a page, of what is seen before anything is scrolled."""
  paths = []
  for device, size in SIZES.items():
    for scheme in SCHEMES:
      context = browser.new_context(
        viewport=size,
        color_scheme=scheme,
        device_scale_factor=2 if device == "phone" else 1,
        has_touch=device == "phone",
      )
      tab = context.new_page()
      tab.goto(page.absolute().as_uri() + hash)
      tab.locator('.tile[aria-checked="true"]').wait_for()
      tab.wait_for_timeout(300)  # until all is drawn
      paths.append(folder / f"explore_{device}_{scheme}.png")
      tab.screenshot(path=paths[-1])
      context.close()
  return paths


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("page", type=Path)
  parser.add_argument("folder", type=Path)
  parser.add_argument("--hash", default="")
  arguments = parser.parse_args()
  with launched() as browser:
    print(*take(browser, arguments.page, arguments.folder, arguments.hash), sep="\n")


if __name__ == "__main__":
  main()
