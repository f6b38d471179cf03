"""Rules of the house: who may import whom, what `import convattn` costs, what files are called."""

import ast
import builtins
import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from convattn.training.config import Experiment
from convattn.training.settings import validate

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "convattn"
DOWNHILL = (
  "ops",
  "layers",
  "models",
  "equivalence",
  "pretrained",
  "data",
  "analysis",
  "training",
  "inference",
  "study",
  "viz",
  "commands",
)
"""Each room may import those before it. `properties` imports none of ours, and none of ours imports it."""
FOUNDATION = ("errors", "fields", "files", "lazy")
"""Modules beside the rooms that all but `properties` may import; they import nothing of ours."""

SOURCES = sorted(PACKAGE.rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
"""Experiments; and studies, which are called study_*."""


def imported(path, package):
  """Dotted names of all that a file imports, in functions too; relative imports are resolved against `package`."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
      origin = ".".join([*base, *([node.module] if node.module else [])])
      yield from (f"{origin}.{alias.name}" for alias in node.names)


def uphill(path, room):
  """What a file of `room` imports of ours and may not."""
  allowed = () if room == "properties" else (*FOUNDATION, *DOWNHILL[: DOWNHILL.index(room) + 1])
  ours = [name for name in imported(path, f"convattn.{room}") if name.split(".")[0] in ("convattn", "configs")]
  return [name for name in ours if name.split(".")[1:2] == [] or name.split(".")[1] not in (*allowed, room)]


def test_every_room_has_a_place():
  rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
  assert rooms <= {*DOWNHILL, "properties"}
  assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "__main__", *FOUNDATION}
  for name in FOUNDATION:
    assert not [each for each in imported(PACKAGE / f"{name}.py", "convattn") if each.startswith("convattn")]


@pytest.mark.parametrize("room", ["data", "inference", "pretrained", "study", "training", "viz"])
def test_type_checkers_and_users_see_the_same_names_of_a_lazy_room(room):
  package = importlib.import_module(f"convattn.{room}")
  (block,) = [node for node in ast.parse((PACKAGE / room / "__init__.py").read_text()).body if isinstance(node, ast.If)]
  seen = {alias.asname: f"{line.module}.{alias.name}" for line in block.body for alias in line.names}
  assert sorted(seen) == package.__all__ == dir(package)
  for name, origin in seen.items():
    module, _, original = origin.rpartition(".")
    assert getattr(package, name) is getattr(importlib.import_module(module), original)
  with pytest.raises(
    AttributeError, match=rf"convattn.{room}' has no attribute 'nothing'; it has {package.__all__[0]}"
  ):
    package.nothing  # noqa: B018


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downhill(path):
  parts = path.relative_to(PACKAGE).parts
  if len(parts) > 1:
    assert uphill(path, parts[0]) == []


@pytest.mark.parametrize(
  "line",
  [
    "import convattn",
    "import convattn.viz as pictures",
    "from convattn import training",
    "from convattn import create_model",
    "from convattn.data.sources import load",
    "from ..training import config",
    "from .. import training",
    "def late():\n  from convattn.commands import main",
    "if TYPE_CHECKING:\n  import convattn.analysis.costs",
    "import configs.digits",
  ],
)
def test_an_uphill_import_is_found(tmp_path, line):
  path = tmp_path / "bad.py"
  path.write_text(line)
  assert len(uphill(path, "models")) == 1
  path.write_text("import jax\nfrom convattn.ops import attend\nfrom . import spec\nfrom ..layers import stem")
  assert uphill(path, "models") == []
  assert len(uphill(path, "properties")) == 2


def test_experiments_import_the_schema_only():
  for path in CONFIGS:
    modules = {name.rpartition(".")[0] or name for name in imported(path, "configs")}
    schema = {"convattn.training.config"} | ({"convattn.study"} if path.stem.startswith("study_") else set())
    assert {name for name in modules if name.startswith("convattn")} == schema


def test_only_viz_imports_matplotlib():
  sources = [*SOURCES, ROOT / "train.py", *CONFIGS]
  drawing = {path for path in sources if any(name.startswith("matplotlib") for name in imported(path, ""))}
  assert drawing
  assert {path.parent for path in drawing} == {PACKAGE / "viz"}


@pytest.mark.parametrize("library", ["tensorflow", "torch", "timm"])
def test_nobody_imports(library):
  importing = [path for path in SOURCES if any(name.split(".")[0] == library for name in imported(path, "convattn"))]
  assert importing == []


def nameless(path):
  return re.search(r"(^|[_/])(utils?|common|helpers?|misc)($|[_./])", path) is not None


def test_every_file_is_named_for_its_idea():
  assert all(map(nameless, ["ops/utils.py", "common/x.py", "misc.py", "train_utils.py", "a/helper.py"]))
  assert not any(map(nameless, ["ops/attention.py", "data/commons.py", "tests/miscount.py"]))
  files = [path for folder in ("convattn", "configs", "tests") for path in (ROOT / folder).rglob("*.py")]
  assert [str(path) for path in files if nameless(str(path.relative_to(ROOT)))] == []


LIGHT = """
import os, sys
import chex, flax, flax.linen, jax, numpy, optax

class Untouchable(list):
  def __getitem__(self, *_): raise AssertionError("argv was read")
  __iter__ = __len__ = __contains__ = __getitem__

sys.argv = Untouchable()
flags, environment = dict(jax.config.values), dict(os.environ)
import convattn
convattn.create_model, convattn.layers, convattn.ops, convattn.pretrained.from_timm
assert dict(jax.config.values) == flags, "a jax flag was set"
assert dict(os.environ) == environment, "the environment was changed"
from jax._src.xla_bridge import backends_are_initialized
assert not backends_are_initialized(), "a backend was started"
roots = {name.split(".")[0] for name in sys.modules}
heavy = roots & {"tensorflow", "torch", "timm", "matplotlib", "tensorflow_datasets", "sklearn", "tensorboardX"}
assert not heavy, heavy
print(convattn.__version__)
"""


def test_importing_is_free():
  done = subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


NOT_FREE = {
  "import matplotlib": "matplotlib",
  "jax.config.update('jax_enable_x64', True)": "a jax flag was set",
  "list(sys.argv)": "argv was read",
  "os.environ['XLA_FLAGS'] = 'x'": "the environment was changed",
  "jax.devices()": "a backend was started",
}
# One process for all: what convattn may import is imported once, and each act is seen in a copy of the process.
COPIES = """
import os, sys, warnings
import chex, flax, flax.linen, jax, numpy, optax
for code in {codes}:
  with warnings.catch_warnings(action="ignore"):
    child = os.fork()
  if not child:
    try:
      exec(code, {{}})
    except BaseException as error:
      print(type(error).__name__, error, file=sys.stderr, flush=True)
      os._exit(1)
    os._exit(0)
  print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_an_import_that_is_not_free_is_found():
  codes = [LIGHT.replace("\nimport convattn\n", f"\nimport convattn\n{act}\n") for act in NOT_FREE]
  done = subprocess.run(
    [sys.executable, "-c", COPIES.format(codes=codes)], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == ["1"] * len(NOT_FREE)
  complaints = [line for line in done.stderr.splitlines() if line.startswith("AssertionError ")]
  assert len(complaints) == len(NOT_FREE), done.stderr
  for complaint, expected in zip(complaints, NOT_FREE.values(), strict=True):
    assert expected in complaint


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_experiment_says_what_it_takes(path):
  documentation = ast.get_docstring(ast.parse(path.read_text()))
  for subject in ("command", "machine", "time", "result"):
    assert re.search(rf"^{subject}: \S", documentation, re.MULTILINE), subject
  if path.stem.startswith("study_"):
    return  # tests/test_configs.py looks at every run of it
  experiment = runpy.run_path(str(path))["get_config"]()
  assert isinstance(experiment, Experiment)
  validate(experiment)


def raised(text):
  """Names of classes at the heads of the lines of a docstring's "Raises:"."""
  for block in re.findall(r"^( *)Raises:\n((?:\1 +\S.*\n?)+)", text, re.MULTILINE):
    for heads in re.findall(rf"^{block[0]}  ([A-Z][\w.]*(?:, [A-Z][\w.]*)*):", block[1], re.MULTILINE):
      yield from heads.split(", ")


def test_what_is_said_to_be_raised_exists():
  known = set(dir(builtins))
  trees = {path: ast.parse(path.read_text()) for path in SOURCES}
  known |= {node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
  described = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
  said = {
    (str(path.relative_to(PACKAGE)), name)
    for path, tree in trees.items()
    for node in ast.walk(tree)
    if isinstance(node, described)
    for name in raised(f"{ast.get_docstring(node) or ''}\n")
  }
  assert len(said) > 100
  assert {(path, name) for path, name in said if name.rpartition(".")[2] not in known} == set()
