"""docs/laws.md has the table that there is. That its snippets run, tests/test_docs.py sees."""

import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from convattn import properties

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "laws.md").read_text()


def test_the_table_is_that_of_the_registry():
  rows = re.findall(r"^\| `check_(\w+)` \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
  assert rows == [(law.name, law.statement, law.source) for law in properties.laws()]
  assert len(rows) > 80


def test_the_message_is_quoted_as_it_is():
  (quoted,) = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)
  with pytest.raises(properties.LawBroken) as raised:
    properties.check_causal(lambda x: jnp.roll(x, -1, 1), jax.random.normal(jax.random.key(1), (2, 5, 3)))
  assert " ".join(quoted.split()) == f"LawBroken: {raised.value}"


def test_the_key_decides_what_is_drawn():
  """None is jax.random.key(0)."""
  x = jax.random.normal(jax.random.key(1), (2, 5, 3))
  seen = []
  for key in (None, jax.random.key(0), jax.random.key(3)):
    with pytest.raises(properties.LawBroken) as raised:
      properties.check_causal(lambda x: jnp.roll(x, -1, 1), x, key=key)
    seen.append(raised.value.size)
  assert seen[0] == seen[1] != seen[2]
