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
