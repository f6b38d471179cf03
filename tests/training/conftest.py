import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def toy():
  """The module tests/training/toy.py."""
  spec = importlib.util.spec_from_file_location("convattn_training_toy", Path(__file__).with_name("toy.py"))
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope="session")
def finished(toy, tmp_path_factory):
  """(folder, final state) of a run that was never interrupted."""
  from convattn.training import ImageClassification, run

  folder = tmp_path_factory.mktemp("uninterrupted")
  state = run(toy.EXPERIMENT, folder, model=toy.Toy(), task=ImageClassification(toy.dataset(), toy.EXPERIMENT))
  return folder, state
