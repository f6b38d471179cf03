"""Which arrays a derivative takes over from the forward pass, read off the traced program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

# Operations whose result is the operand in another form: keeping it keeps the operand.
_VIEWS = {
  "broadcast_in_dim",
  "copy",
  "expand_dims",
  "optimization_barrier",
  "reduce_precision",
  "reshape",
  "squeeze",
  "transpose",
}
# Operations that run a program of their own, with its inputs and outputs in order.
_CALLS = {"checkpoint", "closed_call", "custom_jvp_call", "custom_vjp_call", "jit", "pjit", "remat"}


def residuals(function: Callable[[Any, Any, jax.Array], Any], params: Any, inputs: Any) -> list[Any]:
  """Shape and dtype of each array that the derivative of a function keeps from the forward pass.

  Nothing is computed. Each array is there once, and views of it (reshaped, transposed, broadcast) are it. `params`,
  random keys, constants and arrays made from them alone are left out; `inputs` are in where they are kept. Of an
  operation with several lowerings (`lax.platform_dependent`) it is the default one's.

  Args:
    function: (params, inputs, key) -> (outputs, what needs no derivative).
    params: arrays or their shapes and dtypes.
    inputs: likewise.

  Returns:
    abstract values with `shape` and `dtype`.
  """

  def kept(params: Any, inputs: Any, key: jax.Array) -> list[jax.Array]:
    def outputs(params: Any, inputs: Any) -> Any:
      return function(params, inputs, key)

    return jax.tree.leaves(jax.vjp(outputs, params, inputs, has_aux=True)[1])

  jaxpr = jax.make_jaxpr(kept)(params, inputs, jax.eval_shape(lambda: jax.random.key(0))).jaxpr
  program = _Program(jaxpr)
  origins = [origin for origin in map(program.origin, jaxpr.outvars) if origin is not None]
  own = {id(var) for var in jaxpr.invars[: len(jax.tree.leaves(params))]}
  # By the call too: JAX traces a function once for all calls with the same shapes.
  arrays = {(id(place), id(var)): var.aval for place, var in origins if id(var) not in own}
  return [aval for aval in arrays.values() if not jnp.issubdtype(aval.dtype, jax.dtypes.extended)]


class _Program:
  """A jaxpr, and where it is called from."""

  def __init__(self, jaxpr: core.Jaxpr, caller: _Program | None = None, arguments: list[Any] | None = None):
    self._caller = caller
    self._arguments = dict(zip(map(id, jaxpr.invars), arguments or [], strict=caller is not None))
    self._inputs = {id(var) for var in jaxpr.invars}
    self._outputs = jaxpr.outvars
    self._makers = {id(out): equation for equation in jaxpr.eqns for out in equation.outvars}
    self._called: dict[int, _Program] = {}
    # What depends on an input; equations come in order.
    self._dependent = set(self._inputs)
    for equation in jaxpr.eqns:
      if any(id(var) in self._dependent for var in equation.invars):
        self._dependent.update(map(id, equation.outvars))

  def origin(self, var: Any) -> tuple[_Program, Any] | None:
    """The program and its variable that `var`, one of this one's, is a view of; None for what depends on no input."""
    if isinstance(var, core.Literal):
      return None
    if id(var) in self._inputs:
      return (self, var) if self._caller is None else self._caller.origin(self._arguments[id(var)])
    if id(var) not in self._dependent:
      return None
    equation = self._makers[id(var)]
    place = [id(out) for out in equation.outvars].index(id(var))
    if equation.primitive.name in _VIEWS and equation.invars:
      return self.origin(equation.invars[place])
    inner = self._call(equation)
    if inner is not None:
      return inner.origin(inner._outputs[place])
    return (self, var)

  def _call(self, equation: Any) -> _Program | None:
    name, arguments = equation.primitive.name, equation.invars
    if name == "cond" and equation.params.get("branches_platforms"):
      default = equation.params["branches_platforms"].index(None)
      jaxpr, arguments = equation.params["branches"][default].jaxpr, arguments[1:]
    elif name in _CALLS:
      (jaxpr,) = core.jaxprs_in_params(equation.params)
    else:
      return None
    if id(equation) not in self._called:
      self._called[id(equation)] = _Program(jaxpr, self, arguments)
    return self._called[id(equation)]
