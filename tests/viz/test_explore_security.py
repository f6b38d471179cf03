"""Nothing in a name can run, and nothing leaves the page."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest

from convattn.viz import assembly, explore
from tests.viz import handmade
from tests.viz.handmade import settled

HOSTILE = [
  '<img src=x onerror="window.ran=1">',
  "</script><script>window.ran=1</script>",
  "<!-- <script> <!--",
  "<!-- manifest -->/* script */",
  '"><svg onload=window.ran=1>',
  "\u2028';window.ran=1;//&lt;b&gt;",
]


def test_names_are_text_whatever_they_are(visit):
  maps = handmade.maps()
  for name in HOSTILE:
    page = handmade.page(
      maps=[maps[0].__class__(**{**vars(maps[0]), "layer": name}), *maps[1:]],
      class_names=[name, f"{name}b", "c"],
      image_names=[name] * 3,
      title=name,
      lines=[name],
      compare=handmade.page(title=name),
    )
    tab = visit(page)
    settled(tab)
    assert tab.evaluate("window.ran") is None
    assert tab.locator("#page img, #page svg, #page script, #page b > *").count() == 0
    assert tab.title() == " ".join(name.replace("\u2028", " ").split()) or tab.title() == name
    assert tab.locator("h1").evaluate("element => element.textContent") == name
    assert tab.evaluate("convattn.manifest.class_names[0]") == name
    assert name in tab.locator(".story p").first.evaluate("element => element.textContent")
    assert tab.locator("h3 span").first.evaluate("element => element.textContent") == name
    tab.evaluate("name => { location.hash = `#layer=${encodeURIComponent(name)}&overlay=${name}&sort=${name}` }", name)
    settled(tab)
    assert tab.evaluate("window.ran") is None


def test_names_of_tokens_are_text(visit):
  page = explore([np.full((1, 1, 6, 6), 1 / 6)], tokens=HOSTILE)
  tab = visit(page)
  settled(tab)
  assert tab.locator(".tokens button").evaluate_all("all => all.map((each) => each.textContent)") == HOSTILE
  assert tab.evaluate("window.ran") is None


def test_the_policy_forbids_the_network_and_any_other_script(visit, browser, tmp_path):
  page = handmade.page()
  policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page.html)[1].replace("&#x27;", "'")
  rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
  script = re.search(r"<script>(.*)</script>", page.html, re.DOTALL)[1]
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  assert rules["default-src"] == "'none'"
  assert rules["script-src"] == f"'sha256-{digest}'"
  assert "connect-src" not in rules
  path = page.write(tmp_path / "page.html")
  context = browser.new_context()
  tab, asked = context.new_page(), []
  context.route("http**", lambda route: asked.append(route.request.url) or route.abort())
  tab.goto(path.as_uri())
  reached = "fetch('http://127.0.0.1:9/').then(() => 'yes', (error) => error.message)"
  assert tab.evaluate(reached) == "Failed to fetch"
  tab.evaluate(
    "document.body.append(Object.assign(document.createElement('img'), { src: 'http://127.0.0.1:9/a.png' }))"
  )
  tab.evaluate("""() => {
    const script = document.createElement('script');
    script.textContent = 'window.ran = 1';
    document.body.append(script);
  }""")
  assert tab.evaluate("window.ran") is None
  assert asked == []
  context.close()


def test_the_data_cannot_end_their_element():
  text = assembly.Page({"title": "t", "names": HOSTILE}).html
  data = re.search(r'<script type="application/json" id="manifest">(.*?)</script>', text, re.DOTALL)[1]
  assert not set("<>&") & set(data)
  assert json.loads(data)["names"] == HOSTILE
  # One script and one of data, as in the template.
  assert text.count("</script>") == 2
  with pytest.raises(ValueError):
    assembly.Page({"title": "t", "value": float("nan")}).html  # noqa: B018


def test_modules_are_put_in_order_and_keep_their_names_apart(tmp_path, monkeypatch, browser):
  (tmp_path / "a.js").write_text(
    'import { b as other } from "./b.js";\nconst own = 1;\nglobalThis.sum = own + other();\n'
  )
  (tmp_path / "b.js").write_text(
    'import { c } from "./c.js";\nconst own = 10;\nexport function b() {\n  return own + c;\n}\n'
  )
  (tmp_path / "c.js").write_text("export const c = 100;\n")
  monkeypatch.setattr(assembly, "FOLDER", tmp_path)
  tab = browser.new_page()
  tab.evaluate(assembly.script_of("a.js"))
  assert tab.evaluate("sum") == 111
  tab.close()
  (tmp_path / "c.js").write_text('import { b } from "./b.js";\n')
  with pytest.raises(ValueError, match=r"a.js -> b.js -> c.js -> b.js"):
    assembly.script_of("a.js")
