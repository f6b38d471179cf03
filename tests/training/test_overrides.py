"""Settings as text: every declared type, every refusal in one line."""

import dataclasses
import types
import typing

import pytest
from hypothesis import example, given, settings as budget, strategies as st

from convattn.errors import nearest
from convattn.training.config import Experiment, Model, Optimizer
from convattn.training.settings import apply_overrides, describe_settings, parse_value, settings

KINDS = {name: kind for name, kind, _ in settings(Experiment())}


def kinds_of(kind):
  return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def value_of(experiment, name):
  return {each: value for each, _, value in settings(experiment)}[name]


texts = st.one_of(
  st.text(),
  st.integers().map(str),
  st.floats().map(str),
  st.sampled_from(
    ["true", "False", "None", "none", "", " ", "1.0", "1e400", "nan", "-inf", "0x10", "1_000", "٣", "a\nb"]
  ),
)


@given(name=st.sampled_from(sorted(KINDS)), text=texts)
@example(name="seed", text="9" * 5000)  # more digits than Python turns into an integer
@budget(max_examples=500)
def test_any_text_gives_the_declared_type_or_one_line(name, text):
  try:
    value = value_of(apply_overrides(Experiment(), [(name, text)]), name)
  except ValueError as error:
    refusal = str(error)
  else:
    assert type(value) in kinds_of(KINDS[name])
    return
  assert len(refusal.splitlines()) == 1
  assert refusal.startswith(f"{name} must be ")
  assert refusal.endswith(f"got {text!r}.")


@given(name=st.sampled_from(sorted(KINDS)), data=st.data())
@budget(max_examples=200)
def test_a_written_value_is_read_back(name, data):
  drawn = {
    int: st.integers(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    str: st.text().filter(lambda text: text != "None"),
    type(None): st.none(),
  }
  value = data.draw(st.one_of(*(drawn[each] for each in kinds_of(KINDS[name]))))
  changed = apply_overrides(Experiment(), [(name, str(value))])
  assert value_of(changed, name) == value


@pytest.mark.parametrize("name", sorted(KINDS))
def test_one_override_changes_one_setting(name):
  text = {int: "17", float: "0.125", bool: "true", str: "something"}[kinds_of(KINDS[name])[0]]
  before, changed = Experiment(), apply_overrides(Experiment(), [(name, text)])
  differing = [each for each, _, value in settings(changed) if value != value_of(before, each)]
  assert differing == [name]
  assert before == Experiment()


def test_the_order_of_overrides_does_not_matter():
  overrides = [("seed", "3"), ("optimizer.beta1", "0.8"), ("optimizer.beta2", "0.9"), ("model.head_size", "16")]
  assert apply_overrides(Experiment(), overrides) == apply_overrides(Experiment(), overrides[::-1]) != Experiment()


def test_no_override_changes_nothing():
  assert apply_overrides(Experiment(seed=5), []) == Experiment(seed=5)


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("batch_size", "1.5", "batch_size must be a whole number, got '1.5'."),
    ("batch_size", "true", "batch_size must be a whole number, got 'true'."),
    ("batch_size", "", "batch_size must be a whole number, got ''."),
    ("augmentation.flip", "1", "augmentation.flip must be true or false, got '1'."),
    ("optimizer.beta1", "nan", "optimizer.beta1 must be a finite number, got 'nan'."),
    ("optimizer.beta1", "None", "optimizer.beta1 must be a finite number, got 'None'."),
    ("model.head_size", "none", "model.head_size must be a whole number or None, got 'none'."),
  ],
)
def test_a_wrong_type_is_refused(name, text, message):
  with pytest.raises(ValueError) as refusal:
    apply_overrides(Experiment(), [(name, text)])
  assert str(refusal.value) == message


def test_the_word_none_is_text_and_None_is_nothing():
  start = dataclasses.replace(Experiment(), model=Model(relative_attention="post", head_size=8))
  assert apply_overrides(start, [("model.relative_attention", "none")]).model.relative_attention == "none"
  assert apply_overrides(start, [("model.relative_attention", "None")]).model.relative_attention is None
  assert apply_overrides(start, [("model.head_size", "None")]).model.head_size is None
  assert apply_overrides(start, [("model.name", "None")]).model.name == "None"


def test_a_whole_number_will_do_for_a_float():
  value = parse_value("optimizer.clip_norm", dataclasses.fields(Optimizer)[0], float, "2")
  assert value == 2.0
  assert type(value) is float


def test_of_a_setting_given_twice_the_last_value_counts():
  assert apply_overrides(Experiment(), [("seed", "1"), ("batch_size", "2"), ("seed", "3")]).seed == 3
  changed = apply_overrides(Experiment(), [("model.name", "coatnet_1"), ("seed", "1"), ("model.name", "coatnet_2")])
  assert changed.model.name == "coatnet_2"


@pytest.mark.parametrize(
  ("name", "meant"),
  [
    ("optimiser.beta1", "optimizer.beta1"),
    ("optimizer.learning_rate", "optimizer.peak_learning_rate"),
    ("optimizer.lr", "optimizer.peak_learning_rate"),
    ("label_smoothing", "loss.label_smoothing"),
    ("batchsize", "batch_size"),
    ("model.dtype", "compute.dtype"),
    ("Seed", "seed"),
  ],
)
def test_an_unknown_name_gives_the_nearest(name, meant):
  assert meant in nearest(name, KINDS)[:2]
  with pytest.raises(ValueError, match=f"there is no setting {name!r}; did you mean .*{meant}"):
    apply_overrides(Experiment(), [(name, "1")])


@given(name=st.text())
def test_any_unknown_name_is_one_line(name):
  with pytest.raises(ValueError) as refusal:
    apply_overrides(Experiment(), [(f"x{name}", "1")])
  assert len(str(refusal.value).splitlines()) == 1


def test_a_section_is_not_a_setting():
  with pytest.raises(ValueError, match="optimizer is a group of settings; give one of optimizer.peak_learning_rate, "):
    apply_overrides(Experiment(), [("optimizer", "1")])


def test_every_setting_is_described_once_with_type_value_and_meaning():
  text = describe_settings(Experiment(seed=41))
  rows = [line.split(maxsplit=1) for line in text.splitlines() if line]
  assert [name for name, _ in rows] == [f"--config.{name}" for name in KINDS]
  described = dict(rows)
  assert described["--config.seed"].split() == ["int", "=", "41", *described["--config.seed"].split()[3:]]
  assert described["--config.augmentation.flip"].startswith("bool = false  ")
  assert described["--config.model.head_size"].startswith("int | None = None  ")
  assert all(len(rest.split("  ")[-1]) > 10 for rest in described.values())


@pytest.mark.parametrize(
  ("name", "text"),
  [(n, t) for n in ("batch_size", "loss.label_smoothing") for t in ("1_0", "٣", " 1", "1 ", "0x1", "1_0.0", "")],
)
def test_a_number_is_written_in_digits(name, text):
  with pytest.raises(ValueError, match=f"^{name} must be "):
    apply_overrides(Experiment(), [(name, text)])
