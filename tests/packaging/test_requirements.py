"""requirements.txt pins what pyproject.toml allows, for each Python."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = [
  Requirement(line)
  for line in (ROOT / "requirements.txt").read_text().splitlines()
  if line and not line.startswith("#")
]
# Downloads, which no test does; what benchmarks compare with; what writes other people's data sets.
NOT_PINNED = {"hub", "peer", "prepare"}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def pinned(python):
  """{name: version} that pip installs on that Python on Linux."""
  where = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux"}
  chosen = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(where)]
  names = [canonicalize_name(pin.name) for pin in chosen]
  assert len(names) == len(set(names))
  return dict(zip(names, (str(pin.specifier).removeprefix("==") for pin in chosen), strict=True))


def test_every_pin_is_exact():
  assert all(re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)) for pin in PINS)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("extra", ["", *sorted({*PROJECT["project"]["optional-dependencies"]} - NOT_PINNED)])
def test_what_the_project_declares_is_pinned_within_its_range(python, extra):
  project = PROJECT["project"]
  for text in project["optional-dependencies"][extra] if extra else project["dependencies"]:
    declared = Requirement(text)
    assert declared.specifier.contains(pinned(python)[canonicalize_name(declared.name)]), text


def test_python_311_takes_jax_010_and_later_ones_012():
  releases = {python: ".".join(pinned(python)["jax"].split(".")[:2]) for python in PYTHONS}
  assert releases == {"3.11": "0.10", "3.12": "0.12", "3.13": "0.12", "3.14": "0.12"}
  assert all(pinned(python)["jax"] == pinned(python)["jaxlib"] for python in PYTHONS)
  assert PROJECT["project"]["requires-python"] == ">=3.11"


@pytest.mark.parametrize("python", PYTHONS)
def test_no_other_framework_is_installed(python):
  frameworks = {"tensorflow", "tensorflow-cpu", "torch", "torchvision", "timm", "keras"}
  assert not frameworks & set(pinned(python))
  extras = PROJECT["project"]["optional-dependencies"]
  groups = [PROJECT["project"]["dependencies"], *(extras[name] for name in extras if name not in ("peer", "prepare"))]
  assert not frameworks & {Requirement(text).name for group in groups for text in group}
