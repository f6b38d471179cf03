"""A headless browser for each file of tests of the page; without one they are skipped, and say so."""

import pytest

from tests.viz.browsing import launched, path_of_chromium


@pytest.fixture(scope="module")
def browser():
  """Not for the session: while it runs, so does an event loop, in which others cannot start theirs."""
  if path_of_chromium() is None:
    pytest.skip("no chromium on this machine: the page is not tested (Debian: apt-get install chromium)")
  pytest.importorskip("playwright.sync_api", reason="no playwright: the page is not tested")
  with launched() as browser:
    yield browser


@pytest.fixture
def visit(browser, tmp_path):
  """Opens a Page from the disk; whatever is wrong with it in the browser fails the test."""
  contexts, troubles = [], []

  def opened(page, hash="", **settings):
    path = page.write(tmp_path / f"page_{len(contexts)}.html")
    contexts.append(browser.new_context(**settings))
    tab = contexts[-1].new_page()
    tab.on("console", lambda message: message.type in ("error", "warning") and troubles.append(message.text))
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on(
      "request", lambda request: request.url.startswith(("file:", "blob:", "data:")) or troubles.append(request.url)
    )
    tab.goto(path.as_uri() + hash)
    return tab

  yield opened
  for context in contexts:
    context.close()
  assert troubles == []
