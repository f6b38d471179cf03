"""Every setting changes something that can be seen, or is refused: no dead options."""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from convattn.data import ArraySource, Dataset
from convattn.models import Run, Spec, Stage, variants
from convattn.training.checkpoints import Checkpoints
from convattn.training.classification import ImageClassification
from convattn.training.config import Data, Experiment, Model
from convattn.training.determinism import request_deterministic_kernels
from convattn.training.program import build, make_model, run_keys
from convattn.training.settings import settings
from convattn.training.sharding import make_mesh
from convattn.training.state import TrainState, no_nonfinite
from convattn.training.task import ALL_ROWS, Ranking

BASE = Experiment(num_steps=40, batch_size=4, eval_batch_size=4, ema_decay=0.5, model=Model("tiny"))
TINY = Spec(
  (Stage((Run("C", 1, 8), Run("X", 1, 8), Run("D", 1, 8)), 2), Stage((Run("T", 1, 16),), 1)),
  (4, 4),
  stem_stride=1,
  head_size=4,
  conv_stride="pool",
  relative_position="mlp",
  relative_hidden=6,
)
OTHER = dataclasses.replace(TINY, stem_widths=(4, 6))
SMALL = Spec((Stage((Run("C", 1, 4),), 1),), (4, 4), stem_stride=1)

# Seen in the lowered training or evaluation step.
PROGRAM = {
  "num_steps": 50,
  "log_every": 7,
  "batch_size": 8,
  "micro_batches": 2,
  "eval_batch_size": 8,
  "ema_decay": 0.9,
  "ema_warmup": True,
  "max_skipped_steps": 3,
  "model.name": "other",
  "model.stochastic_depth": 0.3,
  "model.conv_activation": "silu",
  "model.conv_pre_norm_activation": True,
  "model.conv_stride": "depthwise",
  "model.conv_norm": "layer",
  "model.pool": "avg",
  "model.relative_attention": "none",
  "model.head_size": 8,
  "model.head": "plain",
  "model.stem_bias": True,
  "model.stem_kernel": 2,
  "model.stem_stride": 2,
  "model.conv_expansion": 3,
  "model.conv_norm_epsilon": 1e-3,
  "model.conv_expand_from": "input",
  "model.conv_bias": False,
  "model.conv_layer_scale": 0.1,
  "model.causal_depth": 2,
  "model.causal_taps": 2,
  "model.squeeze_ratio": 0.5,
  "model.squeeze_from": "expanded",
  "model.squeeze_at": "before",
  "model.squeeze_activation": "relu",
  "model.relative_position": "table",
  "model.relative_hidden": 7,
  "model.relative_dropout": 0.1,
  "model.attention_width_from": "input",
  "model.attention_norm": "batch",
  "model.attention_activation": "silu",
  "model.attention_shortcut_bias": False,
  "model.attention_layer_scale": 0.1,
  "model.attention_expansion": 3,
  "model.attention_norm_epsilon": 1e-3,
  "augmentation.crop_padding": 1,
  "augmentation.flip": True,
  "augmentation.color_jitter": 0.3,
  "augmentation.erasing": 0.5,
  "augmentation.mixup_alpha": 0.4,
  "augmentation.cutmix_alpha": 0.4,
  "loss.kind": "sigmoid",
  "loss.label_smoothing": 0.1,
  "optimizer.peak_learning_rate": 2e-3,
  "optimizer.end_learning_rate": 2e-5,
  "optimizer.warmup_steps": 3,
  "optimizer.schedule": "linear",
  "optimizer.weight_decay": 0.1,
  "optimizer.beta1": 0.8,
  "optimizer.beta2": 0.9,
  "optimizer.epsilon": 1e-6,
  "optimizer.clip_norm": 0.5,
  "optimizer.freeze": "stem",
  "optimizer.layer_decay": 0.5,
  "compute.dtype": "bfloat16",
  "compute.matmul_precision": "highest",
  "compute.remat": "block",
}
# Seen elsewhere, each by this test.
ELSEWHERE = {
  "seed": ("training/test_every_setting.py", "test_the_seed_changes_the_keys_and_the_order"),
  "init_from": (
    "training/test_init_from.py",
    "test_the_averaged_weights_are_taken_bit_for_bit_and_nothing_else_of_the_run",
  ),
  "adapt_channels": (
    "training/test_init_from_timm.py",
    "test_the_stem_is_fitted_to_images_that_keep_their_channels_where_that_is_asked_for",
  ),
  "data.name": ("training/test_every_setting.py", "test_data_name_and_dir_are_where_images_come_from"),
  "data.dir": ("training/test_every_setting.py", "test_data_name_and_dir_are_where_images_come_from"),
  "data.classes": ("training/test_data_settings.py", "test_each_setting_of_the_data_changes_the_examples"),
  "data.images_per_class": ("training/test_data_settings.py", "test_each_setting_of_the_data_changes_the_examples"),
  "data.subset_seed": ("training/test_data_settings.py", "test_each_setting_of_the_data_changes_the_examples"),
  "data.image_size": ("training/test_data_settings.py", "test_each_setting_of_the_data_changes_the_examples"),
  "data.broken": ("training/test_data_settings.py", "test_a_run_that_skips_what_is_broken_counts_it"),
  "data.exif": ("training/test_exif_of_runs.py", "test_turning_changes_what_is_seen"),
  "data.workers": ("training/test_classification.py", "test_workers_make_the_same_batches_in_processes_of_their_own"),
  "augmentation.resized_crop_area": (
    "training/test_classification.py",
    "test_each_change_on_the_host_is_seen_in_the_batch_and_in_no_evaluation",
  ),
  "augmentation.randaugment_layers": (
    "training/test_classification.py",
    "test_each_change_on_the_host_is_seen_in_the_batch_and_in_no_evaluation",
  ),
  "augmentation.randaugment_magnitude": (
    "training/test_classification.py",
    "test_each_change_on_the_host_is_seen_in_the_batch_and_in_no_evaluation",
  ),
  "model.table_resize": ("models/test_coatnet.py", "test_a_model_that_resizes_its_tables_takes_any_size"),
  "compute.deterministic": ("training/test_every_setting.py", "test_deterministic_is_a_request_to_xla"),
  "compute.debug_nans": ("training/test_numbers.py", "test_debug_nans_stops_at_the_operation"),
  "explore": ("commands/test_explore.py", "test_a_training_ends_with_the_page_unless_it_is_told_not_to"),
  "wandb_project": ("training/test_sinks.py", "test_weights_and_biases_gets_each_line_once"),
  "compute.fsdp": ("training/test_sharding.py", "test_bytes_on_each_device_fall_with_the_number_of_devices"),
  "checkpoint.keep_newest": ("training/test_every_setting.py", "test_newest_and_best_checkpoints_are_kept"),
  "checkpoint.keep_best": ("training/test_every_setting.py", "test_newest_and_best_checkpoints_are_kept"),
  "checkpoint.keep_every": ("training/test_checkpoints.py", "test_every_nth_is_kept_for_good"),
  "checkpoint.every": ("training/test_loop.py", "test_saved_steps_are_exactly_the_promised_ones"),
  "eval_every": ("training/test_loop.py", "test_each_line_is_one_step_with_what_was_due"),
}


@pytest.fixture(autouse=True)
def _tiny_variants(monkeypatch):
  monkeypatch.setitem(variants.VARIANTS, "tiny", TINY)
  monkeypatch.setitem(variants.VARIANTS, "other", OTHER)
  monkeypatch.setitem(variants.VARIANTS, "small", SMALL)


def changed(name, value, model="tiny"):
  base = dataclasses.replace(BASE, model=Model(model))
  section, _, leaf = name.rpartition(".")
  if not section:
    return dataclasses.replace(base, **{leaf: value})
  return dataclasses.replace(base, **{section: dataclasses.replace(getattr(base, section), **{leaf: value})})


def toy_task(experiment):
  rng = np.random.default_rng(0)
  source = ArraySource(rng.integers(0, 255, (12, 5, 5, 1), np.uint8), np.arange(12) % 3)
  return ImageClassification(Dataset(source, source, source, tuple("abc"), (5, 5, 1), (0.5,), (0.5,)), experiment)


class Steps:
  """The lowered steps of an experiment, made when asked for: the one to evaluate takes a fifth of the time.

  Where the state has other shapes the lowered training step, which takes and gives it, differs without being made.
  """

  def __init__(self, experiment):
    self.task = toy_task(experiment)
    self.program = build(experiment, make_model(experiment, 3), self.task, make_mesh(jax.devices()[:1]))

  @functools.cached_property
  def evaluation(self):
    program, batch = self.program, shapes(next(iter(self.task.evaluation_rows("validation", ALL_ROWS))))
    state = program.template
    return program.eval_step.trace(state.params, state.model_state, batch).lower(lowering_platforms=("cpu",)).as_text()

  @functools.cached_property
  def training(self):
    batch, key = shapes(self.task.train_rows(0, ALL_ROWS)), jax.eval_shape(lambda: jax.random.key(0))
    return self.program.train_step.trace(self.program.template, batch, key).lower(lowering_platforms=("cpu",)).as_text()

  @functools.cached_property
  def state(self):
    leaves = jax.tree_util.tree_leaves_with_path(self.program.template)
    return [(path, leaf.shape, leaf.dtype) for path, leaf in leaves]

  def differ(self, other):
    return self.state != other.state or self.evaluation != other.evaluation or self.training != other.training


def shapes(batch):
  return {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in batch.items()}


base_steps = functools.cache(lambda model: Steps(changed("model.name", model)))


def test_every_setting_is_listed():
  assert {name for name, _, _ in settings(BASE)} == set(PROGRAM) | set(ELSEWHERE)
  assert not set(PROGRAM) & set(ELSEWHERE)


@pytest.mark.parametrize(("file", "name"), sorted(set(ELSEWHERE.values())))
def test_what_sees_a_setting_elsewhere_is_there(file, name):
  assert f"def {name}(" in (Path(__file__).parents[1] / file).read_text()


def test_every_field_of_a_spec_but_the_layout_can_be_set():
  layout = {"stages", "stem_widths"}
  fields = {field.name for field in dataclasses.fields(Spec)} - layout
  assert {field.name for field in dataclasses.fields(Model("tiny"))} - {"name"} == fields


def test_the_same_settings_give_the_same_program():
  assert not Steps(changed("eval_every", 99)).differ(base_steps("tiny"))


@pytest.mark.parametrize("name", PROGRAM)
def test_a_setting_changes_the_program(name):
  # What is not the model's is seen with a smaller one.
  base = "tiny" if name.startswith("model.") else "small"
  assert Steps(changed(name, PROGRAM[name], base)).differ(base_steps(base))


def test_the_seed_changes_the_keys_and_the_order():
  assert not np.array_equal(*(jax.random.key_data(run_keys(seed)[0]) for seed in (0, 1)))
  batches = [toy_task(changed("seed", seed)).train_rows(0, ALL_ROWS)["image"] for seed in (0, 1)]
  assert not np.array_equal(*batches)


def test_data_name_and_dir_are_where_images_come_from(tmp_path):
  from convattn.data import load

  with pytest.raises(ValueError, match="'digts'"):
    load("digts", "")
  file = tmp_path / "file"
  file.write_text("")
  with pytest.raises(ValueError, match="file"):
    load(Data().name, str(file / "below"))


def test_deterministic_is_a_request_to_xla(monkeypatch):
  with pytest.raises(RuntimeError, match="deterministic"):
    request_deterministic_kernels()  # a backend runs already
  monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
  request_deterministic_kernels()


@pytest.mark.parametrize("newest, best, kept", [(1, 1, {1, 4}), (2, 1, {1, 3, 4}), (1, 2, {1, 2, 4})])
def test_newest_and_best_checkpoints_are_kept(tmp_path, newest, best, kept):
  state = TrainState(np.int32(0), {"w": np.ones(3)}, {}, {}, ema={}, window={}, nonfinite=no_nonfinite())
  settings_ = dataclasses.replace(BASE.checkpoint, keep_newest=newest, keep_best=best)
  with Checkpoints(tmp_path, settings_, Ranking("validation/accuracy")) as checkpoints:
    for step, accuracy in ((1, 0.9), (2, 0.8), (3, 0.1), (4, 0.2)):
      checkpoints.save(step, state.replace(step=np.int32(step)), {}, {"validation/accuracy": accuracy})
    checkpoints.wait()
    assert set(checkpoints.steps()) == kept
