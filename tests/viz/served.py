"""The modules in page/ as they lie there, for a browser that asks for them; nothing leaves the machine."""

import contextlib

from convattn.viz.assembly import FOLDER

ADDRESS = "http://page.test/"


@contextlib.contextmanager
def served(browser, html="<title>test</title>", **settings):
  """A tab that shows `html`, from where `import("./model.js")` finds page/model.js; its errors fail the test."""
  context = browser.new_context(**settings)
  tab = context.new_page()
  troubles = []

  def serve(route):
    name = route.request.url.removeprefix(ADDRESS)
    if name.endswith(".js"):
      return route.fulfill(body=(FOLDER / name).read_text(), content_type="text/javascript")
    return route.fulfill(body=html, content_type="text/html; charset=utf-8")

  tab.route("**/*", serve)
  tab.on("console", lambda message: message.type in ("error", "warning") and troubles.append(message.text))
  tab.on("pageerror", lambda error: troubles.append(str(error)))
  tab.goto(ADDRESS)
  yield tab
  context.close()
  assert troubles == []
