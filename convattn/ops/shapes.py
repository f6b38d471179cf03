"""The one way a public function of ours checks the shapes of its array arguments (at trace time only)."""

from __future__ import annotations

from typing import Any

import chex


def check_shapes(**arguments: tuple[chex.Array, str]) -> dict[str, int]:
  """Checks every array against its axes and returns the size of each axis letter.

  `check_shapes(query=(query, "b q n d"), key=(key, "b k n d"))` binds a letter to a size at its first appearance, in
  the order of the arguments; later appearances must agree. A number stands for itself, a leading "..." for any axes.

  Raises:
    AssertionError: names the argument, its shape, and the shape wanted.
  """
  sizes: dict[str, int] = {}
  for name, (array, axes) in arguments.items():
    letters = axes.split()
    known = ", ".join(f"{letter} = {sizes[letter]}" for letter in letters if letter in sizes)
    message = f"argument {name!r} has shape {tuple(array.shape)}, but must be [{', '.join(letters)}]"
    wanted = tuple(_wanted(letter, sizes) for letter in letters)
    chex.assert_shape(array, wanted, custom_message=message + (f" with {known}." if known else "."))
    named = [letter for letter in letters if letter != "..."]
    sizes.update({x: size for x, size in zip(named, array.shape[-len(named) :], strict=True) if not x.isdigit()})
  return sizes


def _wanted(letter: str, sizes: dict[str, int]) -> Any:
  if letter == "...":
    return ...
  return int(letter) if letter.isdigit() else sizes.get(letter)
