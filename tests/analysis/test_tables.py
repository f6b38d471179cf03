"""Tables of text."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from convattn.analysis import Cost, columns, cost_table, model_costs, model_table, parameter_table, summary_table


def test_cells_stand_under_each_other():
  rows = [["class", "images"], ["a", "1,000"], ["longest name", "2"]]
  assert columns(rows) == ["  class         images", "  a              1,000", "  longest name       2"]
  assert columns(rows, left=2) == ["  class         images", "  a             1,000", "  longest name  2"]


def test_the_table_counts_every_parameter_of_each_part_in_natural_order():
  params = {
    "stage_10": {"w": jnp.ones((3, 5))},
    "stage_9": {"w": jnp.ones((1000,)), "b": jnp.ones(2)},
    "head": jnp.ones(7),
  }
  lines = [line.split() for line in parameter_table(params).splitlines()]
  assert lines == [["head", "7"], ["stage_9", "1,002"], ["stage_10", "15"], ["total", "1,024"]]


def test_cost_table_sums_the_blocks_of_each_part():
  rows = [
    Cost("stem", (8, 8, 4), 10, 100, 7),
    Cost("stage_1/block_0", (4, 4, 6), 20, 1000, 7),
    Cost("stage_1/block_1", (4, 4, 6), 30, 2000, 7),
    Cost("classifier", (1, 1, 3), 5, 50, 7),
  ]
  lines = [line.split() for line in cost_table(rows).splitlines()]
  assert lines[1:] == [
    ["stem", "8", "×", "8", "×", "4", "10", "100"],
    ["stage_1", "4", "×", "4", "×", "6", "50", "3,000"],
    ["classifier", "1", "×", "1", "×", "3", "5", "50"],
    ["total", "65", "3,150"],
  ]


class _Pair(nn.Module):
  """A module of anybody's, of a tree of inputs."""

  by_value: bool = False

  @nn.compact
  def __call__(self, inputs, *, train):
    x = inputs["x"] if not self.by_value or inputs["x"].sum() > 0 else inputs["y"]
    return nn.Dense(5, name="first")(x) + nn.Dense(5, name="second")(inputs["y"])


def test_every_model_has_a_table():
  inputs = {"x": jnp.ones((3, 2, 7)), "y": jnp.ones((3, 2, 11))}
  params = _Pair().init(jax.random.key(0), inputs, train=False)["params"]
  counted = [line.split() for line in model_table(model_costs(_Pair(), inputs), params).splitlines()]
  assert counted[1:] == [
    ["first", "2", "×", "5", "40", "70"],
    ["second", "2", "×", "5", "60", "110"],
    ["total", "100", "180"],
  ]
  # Its program depends on a number, which no tracing knows.
  assert model_costs(_Pair(by_value=True), inputs) is None
  assert model_table(None, params) == parameter_table(params)


def test_a_module_of_ones_own_has_a_table_without_memory():
  header, *rows = summary_table(nn.Dense(5), (2, 3, 7), 1).splitlines()
  assert header.split() == ["part", "output", "parameters", "multiply-adds", "activations"]
  assert [row.split() for row in rows] == [
    ["Dense", "2", "×", "3", "×", "5", "40", "210", "30"],
    ["total", "40", "210", "30"],
  ]
