"""Strict settings for every test. They must be in the environment before jax starts."""

import importlib.util
import os
import pathlib
import sys

os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
# Tests compile much and compute little. Without LLVM's optimisations they take three quarters of the time; with the
# older generator of fused loops, which JAX 0.10 still has, the compiler takes half of that. Newer ones skip the name.
_FLAGS = (
  "--xla_force_host_platform_device_count=4",
  "--xla_backend_optimization_level=0",
  "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
)
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS])
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_LEGACY_PRNG_KEY"] = "error"
os.environ.setdefault("JAX_DEBUG_KEY_REUSE", "True")
# Compiled programs are kept between runs; tests start most of their time in the compiler.
# One folder for each process of pytest-xdist, since jax does not write its files in one piece.
_CACHE = (
  pathlib.Path(__file__).resolve().parent.parent / ".cache" / "jax" / os.environ.get("PYTEST_XDIST_WORKER", "main")
)
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_CACHE)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# Every new shape is a compilation: few examples, the same ones each time, no deadline.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=20, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def toy():
  """The module tests/training/toy.py."""
  path = pathlib.Path(__file__).with_name("training") / "toy.py"
  spec = importlib.util.spec_from_file_location("convattn_training_toy", path)
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
