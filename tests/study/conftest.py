import dataclasses
import runpy
from pathlib import Path

import pytest

from convattn.models import FAMILIES

TOY = Path(__file__).with_name("toy_study.py")


@pytest.fixture(scope="module")
def toy_study(tmp_path_factory):
  """`get_study` of toy_study.py on the session's digits; its family of models is there for the module's tests alone."""
  module = runpy.run_path(str(TOY))
  folder = str(tmp_path_factory.getbasetemp() / "study_data")

  def make(kind="plain", **changes):
    study = module["get_study"](kind)
    base = dataclasses.replace(study.base, data=dataclasses.replace(study.base.data, dir=folder))
    return dataclasses.replace(study.with_base(base), **changes)

  yield make
  del FAMILIES["tests.study.Plain"]
