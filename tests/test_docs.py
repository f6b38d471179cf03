"""Every page, the README first: its Python runs as written, and its links and names lead somewhere.

A page under docs/ is one program from top to bottom; each snippet of the README stands alone.
"""

import importlib
import pathlib
import re
import shutil
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convattn
from tests.pages import PAGES, ROOT, blocks, prose

TRAIN_OR_LOAD = {"README.md 1", "README.md 2", "docs/composing.md", "docs/data.md", "docs/models.md", "docs/studies.md"}
"""Programs that take long."""


def programs() -> Iterator[pytest.param]:
  for page in PAGES:
    found = blocks(page, "python")
    alone = {f"{page} {number}": [block] for number, block in enumerate(found, 1)}
    for name, codes in (alone if page == "README.md" else {page: found} if found else {}).items():
      yield pytest.param(page, codes, id=name, marks=[pytest.mark.slow] if name in TRAIN_OR_LOAD else [])


@pytest.fixture
def here(tmp_path, monkeypatch):
  """A working directory with the pictures that the pages speak of, and a Hugging Face cache beside it."""
  import sklearn.datasets

  photos = pathlib.Path(sklearn.datasets.__file__).parent / "images"
  shutil.copy(photos / "china.jpg", tmp_path / "photo.jpg")
  for name, part in [(name, part) for name in ("china", "flower") for part in ("train", "validation")]:
    folder = tmp_path / "pictures" / part / name
    folder.mkdir(parents=True)
    for number in range(8):
      shutil.copy(photos / f"{name}.jpg", folder / f"{number}.jpg")
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
  return tmp_path


def draw_weights(tag: str, cache: pathlib.Path) -> None:
  """Puts drawn weights where the released ones of `tag` would lie."""
  from safetensors.numpy import save_file

  path = cache / f"models--timm--{tag}" / "snapshots" / "main" / "model.safetensors"
  path.parent.mkdir(parents=True)
  name = tag.partition(".")[0]
  model = convattn.create_model(name)
  variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(jnp.zeros((1, 224, 224, 3)))
  save_file(convattn.pretrained.to_timm(name, variables), path)


@pytest.mark.parametrize("page, codes", list(programs()))
def test_the_python_of_a_page_runs_as_written(page, codes, here):
  tags = set(re.findall(r'"(coatn\w+\.sw_\w+)"', "".join(codes)))
  for tag in tags:
    draw_weights(tag, here / "hub")
  names = {"__name__": page}
  for code in codes:
    exec(compile(code, page, "exec"), names)
  for name, test in list(names.items()):
    if name.startswith("test_"):
      for arguments in arguments_of(test):
        test(**arguments)


def arguments_of(test) -> list[dict[str, object]]:
  """What pytest would call a test of the page with."""
  marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
  assert len(marks) <= 1
  return [{marks[0].args[0]: value} for value in marks[0].args[1]] if marks else [{}]


def test_there_is_python_on_the_pages():
  assert {page for page in PAGES if blocks(page, "python")} >= {
    "README.md", "docs/composing.md", "docs/data.md", "docs/equivalence.md", "docs/laws.md", "docs/models.md",
    "docs/operators.md", "docs/overlays.md", "docs/runs.md", "docs/seeing_inside.md", "docs/studies.md",
  }  # fmt: skip
  assert {parameter.id for parameter in programs()} >= TRAIN_OR_LOAD


def test_every_fence_says_what_it_holds():
  for page, text in PAGES.items():
    fences = re.findall(r"^```(.*)$", text, re.MULTILINE)
    assert set(fences[::2]) <= {"python", "bash", "text"}, page
    assert set(fences[1::2]) <= {""}, page


def test_the_names_of_our_code_are_there():
  pattern = r"\bconvattn\.([a-z]+)\.(\w+)|`(ops|layers|training|properties|pretrained)\.(\w+)(?!\w*\.\w)"
  seen = 0
  for page, text in PAGES.items():
    for room, name, alone, attribute in re.findall(pattern, text):
      module = importlib.import_module(f"convattn.{room or alone}")
      assert hasattr(module, name or attribute), f"{page}: {room or alone}.{name or attribute}"
      seen += 1
  assert seen > 40


def test_the_files_that_are_named_exist():
  for page in PAGES:
    named = re.findall(r"`((?:convattn|configs|docs|benchmarks|examples|tests)/[\w/.]*)", PAGES[page])
    assert [path for path in named if not (ROOT / path).exists()] == [], page
  assert re.findall(r"`convattn/\w+/`", PAGES["README.md"])


def test_pages_speak_of_rooms_where_files_come_and_go():
  for page in PAGES.keys() - {"docs/architecture.md"}:
    assert not re.findall(r"\b(?:training|tests)/[\w/]*\w+\.py\b", PAGES[page]), page


def anchors(page: str) -> set[str]:
  """What GitHub makes of the headings of a page."""
  found: dict[str, int] = {}
  for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
    words = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()
    slug = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
    found[slug] = found.get(slug, -1) + 1
  return {slug if not number else f"{slug}-{number}" for slug, last in found.items() for number in range(last + 1)}


def broken_links(page: str) -> list[str]:
  """The relative links and pictures of a page that lead nowhere."""
  text = re.sub(r"`[^`\n]*`", "", prose(page))
  targets = re.findall(r"\]\(([^()\s]+)\)", text) + re.findall(r'<img src="(.*?)"', text)
  broken = []
  for target in targets:
    if re.match(r"[a-z]+:", target):
      continue
    name, _, anchor = target.partition("#")
    path = (ROOT / page).parent / name if name else ROOT / page
    shown = path.resolve().relative_to(ROOT.resolve()).as_posix()
    if not path.exists() or (anchor and anchor not in anchors(shown)):
      broken.append(target)
  return broken


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
  assert broken_links(page) == []


def test_a_link_that_leads_nowhere_is_seen(monkeypatch):
  links = (
    "[a](docs/nowhere.md) [b](docs/laws.md#no-such-heading) [c](#the-end) [d](docs/laws.md#in-pytest) [e](#an-end)"
  )
  monkeypatch.setitem(PAGES, "README.md", f"# An end\n{links}\n![f](docs/images/none.png)\n")
  assert broken_links("README.md") == [
    "docs/nowhere.md", "docs/laws.md#no-such-heading", "#the-end", "docs/images/none.png"
  ]  # fmt: skip


def test_every_page_is_to_be_found_from_the_front():
  linked = re.findall(r"\]\((docs/[\w-]+\.md)", PAGES["README.md"])
  assert set(linked) >= PAGES.keys() - {"README.md"}


def test_the_page_of_runs_says_of_each_setting_whether_it_may_change():
  from convattn.training import Experiment
  from convattn.training.settings import changing

  words = {"change freely": "freely", "change with `--continue`": "continued", "are refused:": "refused"}
  said = {}
  for names, what in re.findall(r"^\| (`.*) \| (.*) \|$", PAGES["docs/runs.md"], re.MULTILINE):
    said |= {
      name: kind for word, kind in words.items() if what.startswith(word) for name in re.findall("`(.*?)`", names)
    }
  known = changing(Experiment())
  assert {name: said.get(name) or said.get(f"{name.partition('.')[0]}.*") for name in known} == known
  assert {name for name in said if not name.endswith(".*")} <= known.keys()


# docs/models.md


def rows(text: str) -> list[list[str]]:
  """The cells of the table rows that begin with a name."""
  return [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\| `\w+` \|.*$", text, re.MULTILINE)]


def test_the_models_are_those_there_are():
  """Names and parameters; multiply-adds have their own tests."""
  listed = rows(PAGES["docs/models.md"])
  assert sorted(name.strip("`") for name, *_ in listed) == convattn.list_models()


@pytest.mark.slow
def test_the_models_have_the_parameters_that_the_page_says():
  for name, parameters, *_ in rows(PAGES["docs/models.md"]):
    model = convattn.create_model(name.strip("`"), num_classes=1000)
    size = next((int(each) for each in re.findall(r"_(?:mini_)?(8|28|32)(?:x8)?`", name)), 224)
    height, width = {"patch": (16, 80), "row": (1, 40)}.get(name.strip("`").partition("_")[0], (size, size))
    image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    if "384" in name or name == "`test_coatnet`":
      image = jax.ShapeDtypeStruct((1, *([384] * 2 if "384" in name else [160] * 2), 3), jnp.float32)
    params = jax.eval_shape(lambda x, model=model: model.init(jax.random.key(0), x, train=False), image)["params"]
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params)) == int(re.sub(r"\D", "", parameters)), name


def test_the_released_weights_are_those_there_are():
  from convattn.models.timm_variants import TIMM_VARIANTS
  from convattn.pretrained.tags import TAGS

  text = PAGES["docs/models.md"]
  listed = {row[0].strip("`"): row[3:] for row in rows(text[text.index("## timm's models") :])}
  assert set(listed) == set(TIMM_VARIANTS)
  for name, (accuracies, weights) in listed.items():
    tags = [tag for tag in TAGS if tag.architecture == name and tag.trained]
    assert set(re.findall(r"`\.(.*?)`", weights)) == {tag.name.partition(".")[2] for tag in tags}
    known = {f"{tag.accuracy:.2f}" for tag in tags if tag.accuracy is not None}
    assert set(re.findall(r"\d\d\.\d\d", accuracies)) == known


def test_the_error_of_another_grid_is_quoted_as_it_is():
  model = convattn.create_model("coatnet_mini_8")
  images = [jax.ShapeDtypeStruct((1, *size, 3), jnp.float32) for size in ((8, 8), (12, 8))]
  variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images[0])
  with pytest.raises(ValueError) as raised:
    jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, images[1])
  assert f"ValueError: {raised.value}" in " ".join(PAGES["docs/models.md"].split())
