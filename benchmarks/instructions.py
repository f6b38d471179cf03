"""A compiled program's instructions, from its text: what kind of operation each is and which layer asked for it."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable

KINDS = ("convolution", "matmul", "indexing", "reduction", "elementwise", "data movement", "loop", "other")
"""Of several operations fused into one, the kind that comes first here names all of it."""

FORWARD, BACKWARD, REST = "forward", "backward", "rest"

_OPCODES = {
  "convolution": {"convolution"},
  "matmul": {"dot", "ragged-dot", "triangular-solve", "cholesky"},
  "indexing": {"gather", "scatter", "sort", "topk", "select-and-scatter"},
  "reduction": {"reduce", "reduce-window"},
  "data movement": {
    *("broadcast", "concatenate", "copy", "copy-done", "copy-start", "dynamic-slice", "dynamic-update-slice", "iota"),
    *("pad", "reshape", "reverse", "slice", "transpose"),
  },
  "loop": {"while", "conditional", "call"},
  "other": {
    *("custom-call", "infeed", "outfeed", "rng", "rng-bit-generator", "send", "recv", "fft", "all-reduce"),
    *("all-gather", "all-to-all", "collective-permute", "reduce-scatter", "partition-id", "replica-id"),
  },
}
_KIND_OF = {opcode: kind for kind, opcodes in _OPCODES.items() for opcode in opcodes}
_FREE = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "fusion", "after-all", "opt-barrier"}
_LINE = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([a-z][\w\-]*)\((.*)")
_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_STAGE = re.compile(r"stem|stage_\d+|classifier")
_CONTROL = re.compile(
  r"cond|while|body|closed_call|checkpoint|rematted_computation|scan|branch_\d+_fun|.*[()].*|.*->.*|.*\.apply"
)


@dataclasses.dataclass(frozen=True)
class Place:
  """Where in the model an operation comes from.

  Attributes:
    stage: stem, stage_1, ..., classifier; "loss", or "optimizer, rest".
    direction: FORWARD, BACKWARD, or REST for what is in neither.
    layer: inside the stage, as in "block_0/expand"; empty where the stage itself asks for it.
    primitive: JAX's name of the operation.
  """

  stage: str
  direction: str
  layer: str
  primitive: str


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A line of a program's text; `rest` is what follows the opcode's parenthesis."""

  name: str
  opcode: str
  shape: str
  rest: str
  is_root: bool

  @property
  def op_name(self) -> str:
    found = re.search(r'op_name="([^"]*)"', self.rest)
    return found[1] if found else ""

  @property
  def operands(self) -> list[str]:
    return re.findall(r"%([\w.\-]+)", self.rest.split("), ")[0])

  @property
  def called(self) -> str | None:
    """The computation of a fusion or a call. (A loop's body and condition are operations of their own.)"""
    found = re.search(r"(?:calls|to_apply)=%?([\w.\-]+)", self.rest)
    return found[1] if found and self.opcode in ("fusion", "call", "custom-call", "async-start") else None


class Program:
  """The instructions of `compiled.as_text()`, by name."""

  def __init__(self, text: str):
    self.module = text.split(maxsplit=2)[1].rstrip(",")
    self.instructions: dict[str, Instruction] = {}
    self._members: dict[str, list[Instruction]] = collections.defaultdict(list)
    self._users: dict[str, list[str]] = collections.defaultdict(list)
    computation = ""
    for line in text.splitlines():
      if header := _COMPUTATION.match(line):
        computation = header[1]
      elif found := _LINE.match(line):
        root, name, shape, opcode, rest = found.groups()
        instruction = Instruction(name, opcode, re.sub(r"\{[^}]*\}|/\*.*?\*/", "", shape), rest, bool(root))
        self.instructions[name] = instruction
        self._members[computation].append(instruction)
        for operand in instruction.operands:
          self._users[operand].append(name)

  def kind(self, name: str) -> str:
    """One of KINDS. A fusion is what it holds: any product makes it a "matmul", else any sum a "reduction"."""
    found = set(self._kinds(name))
    return next((kind for kind in KINDS if kind in found), "data movement")

  def place(self, name: str) -> Place:
    """Of the instruction, else of what it computes inside, its operands, or the first to use it: some have no name."""
    named = (op_name for op_name in self._op_names(name, depth=3) if op_name.startswith("jit("))
    return place(next(named, ""))

  def _kinds(self, name: str) -> Iterable[str]:
    instruction = self.instructions.get(name)
    if instruction is None:
      yield "other"
    elif instruction.called:
      for member in self._members[instruction.called]:
        yield from self._kinds(member.name)
    elif instruction.opcode == "custom-call":
      target = instruction.rest.rpartition("custom_call_target=")[2][:60].lower()
      yield "convolution" if "conv" in target else "matmul" if re.search("gemm|matmul|dot", target) else "other"
    elif instruction.opcode not in _FREE:
      yield _KIND_OF.get(instruction.opcode, "elementwise")

  def _op_names(self, name: str, depth: int) -> Iterable[str]:
    instruction = self.instructions.get(name)
    if instruction is None:
      return
    yield instruction.op_name
    if instruction.called:
      members = sorted(self._members[instruction.called], key=lambda member: not member.is_root)
      yield from (member.op_name for member in members)
    if depth:
      for operand in instruction.operands:
        yield from self._op_names(operand, depth - 1)
    if instruction.called and not instruction.operands:  # an array of one constant, say
      yield from (self.instructions[user].op_name for user in self._users[name])


def place(op_name: str) -> Place:
  """Reads JAX's name of an operation.

  jit(train_step)/transpose(jvp(CoAtNet))/CoAtNet.features/stage_1/block_0/expand/dot_general
  -> Place("stage_1", "backward", "block_0/expand", "dot_general")
  """
  *path, primitive = op_name.split("/")
  direction = BACKWARD if "transpose(" in op_name else FORWARD if "jvp(" in op_name or "CoAtNet" in op_name else REST
  # The last: what is computed again in the backward pass has the forward pass's name behind its own.
  start = next((i for i in reversed(range(len(path))) if _STAGE.fullmatch(path[i])), None)
  if start is not None:
    layer = "/".join(part for part in path[start + 1 :] if not _CONTROL.fullmatch(part))
    return Place(path[start], direction, layer, primitive)
  stage = "loss" if "jvp(" in op_name and "CoAtNet" not in op_name else "optimizer, rest"
  return Place(stage, direction if stage == "loss" else REST, "", primitive)
