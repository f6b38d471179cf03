"""Every law: it holds where it should, and its mutants are caught."""

import functools
import importlib
import inspect

import jax
import pytest

from convattn import properties
from tests.properties.expected import EXPECTED
from tests.properties.group import Group

NAMES = "attention transformed attention_layers masks images kernels layers training gates tables matrices"
MODULES = [importlib.import_module(f"tests.properties.{name}") for name in NAMES.split()]
GROUPS = {name.lower(): each for module in MODULES for name, each in vars(module).items() if isinstance(each, Group)}


def check(name, law, arrays, fn):
  """Compiled where it makes no difference to the law: a check calls its function many times."""
  fn = fn if name == "transformed" else compiled(fn)
  return properties.LAWS[law].check(fn, *arrays, **GROUPS[name].keywords(law, arrays))


@functools.cache
def compiled(fn):
  return jax.jit(fn)


# They want a difference, which is then too small.
OPPOSITES = {
  "not_affine",
  "content_matters",
  "positions_matter",
  "reach",
  "every_parameter_used",
  "only_gate_learns",
  "key_decides",
  "only_reached_shifts_learn",
  "every_row_read",
  "sees_itself",
  "draws_per_example",
}


def cases():
  """(group, function, size): the first of ours at the small size is fast."""
  for name, group in GROUPS.items():
    for kind in ("ours", "theirs"):
      for number, fn in enumerate(getattr(group, kind)):
        for size in (0, 1):
          yield pytest.param(
            name, kind, fn, size, marks=[pytest.mark.slow] if number or size or kind == "theirs" else []
          )


MUTANTS = [(name, mutant) for name, group in GROUPS.items() for mutant in group.mutants]


def broken_by(mutant):
  """The law."""
  return mutant.partition(": ")[0]


def mutants():
  """(group, mutant): the first of every law is fast."""
  seen = set()
  for name, mutant in MUTANTS:
    own = broken_by(mutant)
    yield pytest.param(name, mutant, marks=[pytest.mark.slow] if own in seen else [])
    seen.add(own)


@pytest.mark.parametrize(("name", "kind", "fn", "size"), [*cases()])
def test_it_holds_where_it_should(name, kind, fn, size):
  group = GROUPS[name]
  for law in group.laws:
    check(name, law, group.arrays[size], getattr(group, kind)[fn])


@pytest.mark.parametrize(("name", "mutant"), [*mutants()])
def test_a_mutant_breaks_its_law(name, mutant):
  group = GROUPS[name]
  own, fn = broken_by(mutant), group.mutants[mutant]
  with pytest.raises(properties.LawBroken) as raised:
    check(name, own, group.arrays[0], fn)
  assert raised.value.law == own
  text = str(raised.value)
  assert text.startswith(f"law {own!r} is broken: {properties.LAWS[own].statement}. ")
  assert raised.value.size >= raised.value.tolerance or own in OPPOSITES


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mutant"), MUTANTS)
def test_a_mutant_breaks_no_other_law_that_is_not_listed(name, mutant):
  group = GROUPS[name]
  own, fn = broken_by(mutant), group.mutants[mutant]
  others, reason = EXPECTED.get((name, mutant.partition(": ")[2]), ("", ""))
  assert bool(others) == bool(reason)
  fired = set()
  for law in group.laws:
    try:
      check(name, law, group.arrays[0], fn)
    except properties.LawBroken:
      fired.add(law)
  assert fired == {own, *others.split()}


def test_every_law_has_functions_of_ours_and_of_others_and_a_mutant():
  """One of ours and two that are not, in groups with two sizes."""
  for law in properties.LAWS:
    groups = [group for group in GROUPS.values() if law in group.laws]
    assert any(group.ours for group in groups), law
    assert len({fn for group in groups for fn in group.theirs}) >= 2, law
    assert any(own == law for group in groups for own in map(broken_by, group.mutants)), law
    assert all(len(group.arrays) == 2 for group in groups), law


def test_what_is_expected_exists():
  assert set(EXPECTED) <= {(name, mutant.partition(": ")[2]) for name, mutant in MUTANTS}


def test_every_check_has_one_shape():
  """check_x(fn, *arrays, key=None, tolerance=None, ...), all else by name."""
  for name, row in properties.LAWS.items():
    assert row.check is getattr(properties, f"check_{name}")
    parameters = list(inspect.signature(row.check).parameters.values())
    assert [each.name for each in parameters[:4]] == ["fn", "arrays", "key", "tolerance"], name
    assert [each.default for each in parameters[2:4]] == [None, None], name
    assert all(each.kind is each.KEYWORD_ONLY for each in parameters[2:]), name
    assert row.statement and row.source and row.check.__doc__
