"""Runs on a module and a task of the user's own: what their checkpoints hold and need."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from convattn.training import restore, run


def refused(source, **options):
  with pytest.raises(ValueError) as raised:
    restore(source, **options)
  assert len(str(raised.value).splitlines()) == 1
  return str(raised.value)


class Longer(nn.Module):
  """A Toy, and a layer behind it or one less."""

  toy: nn.Module
  layer: nn.Module | None = None

  def setup(self):
    nn.share_scope(self, self.toy)

  def __call__(self, x, *, train):
    logits = self.toy(x, train=train)
    return logits if self.layer is None else self.layer(logits)


class Shorter(nn.Module):
  """A part of a Toy: apply finds all that it asks for."""

  @nn.compact
  def __call__(self, x, *, train):
    return nn.Dense(3, name="head")(nn.Conv(6, (3, 3), use_bias=False, name="conv")(x).mean((1, 2)))


def test_a_model_of_another_class_is_the_callers(toy, finished):
  folder, state = finished
  restored = restore(folder, model=toy.Toy())
  assert restored.model == toy.Toy()
  averages = {"params": state.ema["params"], **state.ema["model_state"]}
  jax.tree.map(np.testing.assert_array_equal, restored.variables, averages)
  assert restored.class_names == ("dark", "grey", "light")
  images = np.random.default_rng(0).normal(size=(3, 5, 7, 2)).astype(np.float32)
  assert restored.model.apply(restored.variables, images, train=False).shape == (3, 3)


def test_a_model_of_another_class_must_be_given_and_must_fit(toy, finished):
  newest = finished[0] / "checkpoints" / "24"
  message = refused(finished[0])
  assert message.startswith(f"the checkpoint {newest} holds a model of class 'convattn_training_toy.Toy', which ")
  assert message.endswith(f"; make that one yourself: training.restore({str(newest)!r}, model=...).")
  start = f"the weights of the checkpoint {newest} do not fit the model that was given, "
  for model, reason in (
    (toy.Toy(4), "Toy: params/head/bias is (3,), but must be (4,); give the one that was trained."),
    (Longer(toy.Toy(), nn.Dense(3)), "Longer: params/layer/bias is absent, but must be (3,)"),
    (Shorter(), "Shorter: batch_stats/norm/mean is (6,), but must be absent"),
    (nn.Dense(3), "Dense: Dense.__call__() got an unexpected keyword argument 'train'"),
  ):
    assert refused(finished[0], model=model).startswith(start + reason)
  assert restore(finished[0], model=Longer(toy.Toy())).step == 24
  assert "model must be a linen module, got type; make one, such as Toy()" in refused(finished[0], model=toy.Toy)


def test_a_run_says_that_its_task_was_passed_in_python(toy, finished, tmp_path, monkeypatch):
  assert restore(finished[0], model=toy.Toy()).task_passed
  monkeypatch.setattr("convattn.training.runs.load_dataset", lambda *_: toy.dataset())
  run(toy.short(1), tmp_path, model=toy.Toy())
  assert not restore(tmp_path, model=toy.Toy()).task_passed
