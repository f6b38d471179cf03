"""A headless Chromium of this machine."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

# Nothing of it may go out by itself: what leaves in a test is the page's doing.
ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome")


def path_of_chromium() -> str | None:
  return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def launched() -> Iterator[Any]:
  """The browser, closed in the end."""
  from playwright.sync_api import sync_playwright

  with sync_playwright() as running:
    browser = running.chromium.launch(executable_path=path_of_chromium(), args=ARGUMENTS)
    yield browser
    browser.close()
