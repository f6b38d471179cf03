"""Strict settings for every test. They must be in the environment before jax starts."""

import gc
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
# Compiled programs are kept between runs; tests start most of their time in the compiler.
# One folder for each process of pytest-xdist, since jax does not write its files in one piece.
_CACHE = (
  pathlib.Path(__file__).resolve().parent.parent / ".cache" / "jax" / os.environ.get("PYTEST_XDIST_WORKER", "main")
)
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_CACHE)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Tracing makes millions of objects, nearly none of them garbage: the collector would take a tenth of the time.
gc.set_threshold(50_000, 20, 20)

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# Every new shape is a compilation: few examples, the same ones each time, no deadline.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=20, database=None)
hypothesis.settings.load_profile("repeatable")


# Where keys are split and drawn from. A longer test looks everywhere: it takes a quarter of the time of tracing.
_DRAWING = ("data", "layers", "models", "properties", "pretrained/test_head_replacement.py")
_DRAWING += ("training/test_steps.py", "training/test_program.py", "training/test_micro_batches.py")


@pytest.fixture(autouse=True)
def _a_key_is_used_once(request):
  """JAX raises where a random key is used a second time."""
  import jax

  path = request.path.relative_to(pathlib.Path(__file__).parent)
  drawing = any(path.is_relative_to(each) for each in _DRAWING) or request.node.get_closest_marker("slow")
  with jax.debug_key_reuse(bool(drawing)):
    yield


@pytest.fixture(scope="session")
def toy():
  """The module tests/training/toy.py."""
  path = pathlib.Path(__file__).with_name("training") / "toy.py"
  spec = importlib.util.spec_from_file_location("convattn_training_toy", path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope="module")
def shared_programs(toy):
  """Runs of equal programs compile them once.

  Runs in processes of their own compile everything anew (training/test_kill.py).
  """
  with toy.sharing():
    yield


@pytest.fixture(scope="module")
def one_device():
  """Runs see one device: their programs compile in half of the time, where nothing is about several."""
  import jax

  from convattn.training import make_mesh, runs

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(runs, "make_mesh", lambda fsdp: make_mesh(jax.devices()[:1], fsdp))
    yield


@pytest.fixture(scope="session")
def finished(toy, tmp_path_factory):
  """(folder, final state) of a run that was never interrupted."""
  from convattn.training import ImageClassification, run, runs, sharding

  folder = tmp_path_factory.mktemp("uninterrupted")
  with toy.sharing(), pytest.MonkeyPatch.context() as patch:
    patch.setattr(runs, "make_mesh", sharding.make_mesh)  # on all devices, also where it is asked for by `one_device`
    state = run(toy.EXPERIMENT, folder, model=toy.Toy(), task=ImageClassification(toy.dataset(), toy.EXPERIMENT))
  return folder, state
