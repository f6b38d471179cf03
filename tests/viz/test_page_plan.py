"""What a page has room for: told from shapes, before anything is computed."""

import dataclasses

import jax
import numpy as np
import pytest

from convattn import pretrained
from convattn.errors import UserError
from convattn.models import CoAtNet, Run, Spec, Stage
from convattn.training.config import Checkpoint
from convattn.training.restoring import Classifier
from convattn.viz.page_plan import kept_states, plan_page, spread
from convattn.viz.page_size import page_size


@pytest.fixture(scope="module")
def restored(toy):
  model = toy.coatnet()
  variables = jax.jit(lambda x: model.init(jax.random.key(0), x, train=False))(np.zeros((1, 5, 7, 2), np.float32))
  preprocessing = pretrained.Preprocessing((5, 7), (0.3, 0.4), (0.2, 0.1))
  fields = (model, dict(variables), preprocessing, ("dark", "grey", "light"), toy.EXPERIMENT, 3, "runs/here")
  return Classifier(*fields)


def test_layers_are_chosen_by_a_pattern_and_count_as_they_are(restored):
  shape = (5, 7, 2)
  size = page_size(restored.model, restored.variables, shape, 3)
  assert size.layers == ("stage_2/block_0/attention",)
  assert page_size(restored.model, restored.variables, shape, 3, "stage_2/*").layers == size.layers
  # 3 x 4 cells, two heads: at least the 16 bits of each logit of an image, in base64.
  assert size.step_each >= 12 * 12 * 2 * 2 * 4 / 3
  assert size.megabytes(5) - size.megabytes(4) == pytest.approx(size.each / 1e6)
  assert size.images(size.megabytes(7) + 1e-9) == 7
  assert size.steps(size.megabytes(7, 3) + 1e-9, 7) == 3
  with pytest.raises(
    UserError, match=r"no layer that attends is called 'stage_7/\*'; there are stage_2/block_0/attention\."
  ):
    page_size(restored.model, restored.variables, shape, 3, "stage_7/*")


def test_a_model_in_which_nothing_attends_has_no_page(toy):
  model = toy.Toy()
  variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), np.zeros((1, 5, 7, 2), "float32"))
  with pytest.raises(UserError, match="no layer of the Toy attends"):
    page_size(model, variables, (5, 7, 2), 3)


def test_as_many_images_as_there_is_room_for_and_no_more(restored):
  one, few = (page_size(restored.model, restored.variables, (5, 7, 2), 3).megabytes(n) for n in (1, 4.5))
  plan = plan_page(restored, megabytes=few, most=16)
  assert (plan.count, plan.states) == (4, ())
  assert plan.megabytes <= few
  assert plan.notes == ("there is room for 4 images; --max-megabytes or --layers makes more",)
  assert plan_page(restored, megabytes=few, most=3).notes == ()
  assert plan_page(restored, megabytes=few, count=4, most=16).notes == ()
  with pytest.raises(
    UserError, match=r"a page of 5 images and 1 layer would .*; leave out images \(--count=4\), or raise"
  ):
    plan_page(restored, megabytes=few, count=5, most=16)
  with pytest.raises(UserError, match=r"a page of 1 image and 1 layer would .*; raise --max-megabytes\."):
    plan_page(restored, megabytes=one * 0.99, most=16)


def test_layers_that_have_no_room_are_left_out_from_the_first_on(toy, restored):
  stages = (Stage((Run("T", 1, 8),), 1), Stage((Run("T", 1, 8),), 2))
  model = CoAtNet(Spec(stages, (4, 4), stem_stride=1, head_size=4), 3)
  images = np.zeros((1, 5, 7, 2), np.float32)
  deep = dataclasses.replace(restored, model=model, variables=dict(model.init(jax.random.key(0), images, train=False)))
  sizes = {name: page_size(model, deep.variables, (5, 7, 2), 3, name).megabytes(2) for name in ("*", "stage_2/*")}
  assert sizes["stage_2/*"] < sizes["*"]
  between = sum(sizes.values()) / 2
  plan = plan_page(deep, megabytes=between, count=2, most=16)
  assert (plan.layers, plan.count) == ("stage_2/*", 2)
  assert plan.notes[0].startswith("there is room for the layers stage_2/* alone")
  assert plan_page(deep, megabytes=sizes["*"] + 1e-6, count=2, most=16).layers == "*"
  with pytest.raises(UserError, match=r"of 2 images and 2 layers .* leave out .*layers \(--layers='stage_2/\*'\), or"):
    plan_page(deep, layers="*", megabytes=between, count=2, most=16)


def test_a_second_model_takes_room_too_and_must_take_the_same_images(restored):
  size = page_size(restored.model, restored.variables, (5, 7, 2), 3)
  both = plan_page(restored, restored, megabytes=20, count=2, most=16).megabytes
  assert both == pytest.approx(2 * size.megabytes(2))
  other = dataclasses.replace(restored, preprocessing=pretrained.Preprocessing((5, 8), (0.3, 0.4), (0.2, 0.1)))
  with pytest.raises(UserError, match="takes images of 5 × 8 × 2, but runs/here of 5 × 7 × 2"):
    plan_page(restored, other, megabytes=20, most=16)


def test_the_states_of_a_training_are_those_that_were_kept_for_good(restored, toy, tmp_path):
  for step in (4, 8, 12, 14, 16, 18, 20):
    (tmp_path / str(step)).mkdir()
  (tmp_path / "8.deleted").mkdir()

  def of(keep_every, step):
    experiment = dataclasses.replace(toy.EXPERIMENT, checkpoint=Checkpoint(every=4, keep_every=keep_every))
    return dataclasses.replace(restored, experiment=experiment, step=step, source=str(tmp_path / str(step)))

  steps = [step for step, folder in kept_states(of(2, 18)) if folder == tmp_path / str(step)]
  assert steps == [8, 16, 18]  # the last is the one that is shown
  assert [step for step, _ in kept_states(of(1, 16))] == [4, 8, 12, 16]
  assert kept_states(of(0, 18)) == kept_states(of(1, 4)) == []
  size = page_size(restored.model, restored.variables, (5, 7, 2), 3)
  plan = plan_page(of(1, 20), megabytes=size.megabytes(2, 3.5), count=2, most=16)
  assert [step for step, _ in plan.states] == [4, 12, 20]
  assert plan.notes == (
    "the slider has 3 of the 5 states that the run kept; --max-megabytes, --count or --layers makes room",
  )
  assert plan_page(of(1, 20), megabytes=size.megabytes(2, 1.5), count=2, most=16).states == ()
  assert kept_states(dataclasses.replace(restored, experiment=None, step=None)) == []  # released weights


@pytest.mark.parametrize("most, wanted", [(9, "abcdefg"), (4, "aceg"), (3, "adg"), (2, "ag"), (1, ""), (0, "")])
def test_states_are_spread_evenly(most, wanted):
  assert "".join(spread([*"abcdefg"], most)) == wanted
