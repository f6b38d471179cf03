"""Two trees side by side, for messages."""

import json
from collections.abc import Collection
from typing import Any

import jax

_LONGEST = 100


def differences(old: dict[str, Any], new: dict[str, Any], but: Collection[str] = ()) -> str:
  """What differs between two JSON trees, on one line: "seed: 3 there, 5 now; loss.kind: ..."; empty if nothing does.

  The names in `but` are passed over.
  """
  # A tuple and the list that JSON makes of it are the same.
  there, now = _flat(json.loads(json.dumps(old))), _flat(json.loads(json.dumps(new)))
  return "; ".join(
    f"{name}: {_short(there, name)} there, {_short(now, name)} now"
    for name in dict.fromkeys([*there, *now])
    if name not in but and (name not in there or name not in now or there[name] != now[name])
  )


def shape_difference(given: Any, wanted: Any) -> str:
  """The first leaf whose shape differs: "head/bias is (3,), but must be (4,)", or absent; empty if none does."""
  ours, theirs = (
    {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}
    for leaves in map(jax.tree_util.tree_leaves_with_path, (wanted, given))
  )
  for path in [*ours, *theirs]:
    if ours.get(path) != theirs.get(path):
      return f"{path} is {theirs.get(path, 'absent')}, but must be {ours.get(path, 'absent')}"
  return ""


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for name, value in tree.items():
    flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
  return flat


def _short(flat: dict[str, Any], name: str) -> str:
  text = repr(flat.get(name, "absent"))
  return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
