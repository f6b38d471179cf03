"""Weight files: reading them without trust, and finding timm's on this machine or on Hugging Face."""

from __future__ import annotations

import json
import os
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from convattn.errors import UserError

# safetensors' names of element types. It also has some of less than a byte, which no array of ours holds.
DTYPES: dict[str, Any] = {
  "BOOL": np.bool_,
  "U8": np.uint8,
  "I8": np.int8,
  "U16": np.uint16,
  "I16": np.int16,
  "U32": np.uint32,
  "I32": np.int32,
  "U64": np.uint64,
  "I64": np.int64,
  "F8_E4M3": jnp.float8_e4m3fn,
  "F8_E4M3FNUZ": jnp.float8_e4m3fnuz,
  "F8_E5M2": jnp.float8_e5m2,
  "F8_E5M2FNUZ": jnp.float8_e5m2fnuz,
  "F8_E8M0": jnp.float8_e8m0fnu,
  "F16": np.float16,
  "BF16": jnp.bfloat16,
  "F32": np.float32,
  "F64": np.float64,
  "C64": np.complex64,
}
WEIGHTS = "model.safetensors"
_PICKLE_STARTS = (b"PK\x03\x04", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))
_PICKLE_ENDINGS = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """All tensors of a safetensors file by name, bit for bit in the file's dtypes, as arrays of their own.

  Raises:
    UserError: nothing there, a folder, a file that is empty, damaged, of another format, or that claims what it does
      not hold; one line that names the path. Nothing is ever unpickled.
  """
  shown = repr(os.fspath(path))
  if not os.path.isfile(path):
    problem = "is a folder, not a file" if os.path.isdir(path) else "is not there"
    raise UserError(f"{shown} {problem}; give the path of a safetensors file.")
  if os.path.getsize(path) == 0:
    raise UserError(f"{shown} is empty; fetch it again.")
  try:
    with safe_open(path, framework="numpy"):  # checks sizes, offsets and shapes against each other and the file
      pass
    return _read(path)
  except OSError as error:
    raise UserError(f"{shown} cannot be read ({error}).") from error
  except (SafetensorError, ValueError) as error:
    with open(path, "rb") as file:
      start = file.read(4)
    if start.startswith(_PICKLE_STARTS) or str(path).endswith(_PICKLE_ENDINGS):
      advice = "nothing is unpickled here, since that can run any program; convert it to safetensors"
      raise UserError(f"{shown} is a pickled file; {advice} (safetensors.torch.save_file).") from error
    reason = " ".join(str(error).split())[:200]  # it may quote the file
    raise UserError(f"{shown} is cut short, damaged or no safetensors file ({reason}); fetch it again.") from error


def find_weights(tag: str) -> Path:
  """The safetensors file of timm's weights: from the Hugging Face cache, else downloaded into it.

  Downloads with huggingface_hub where that is installed.

  Raises:
    UserError: neither works; one line with the address to fetch and the path to put it at.
  """
  found = cached_weights(tag)
  if found is not None:
    return found
  try:
    from huggingface_hub import hf_hub_download
  except ImportError:
    reason = "huggingface_hub, which would download them, is not installed (pip install huggingface_hub)"
    raise UserError(_by_hand(tag, reason)) from None
  try:
    return Path(hf_hub_download(f"timm/{tag}", WEIGHTS, cache_dir=_cache()))
  except Exception as error:  # its own, its HTTP library's (which changed between releases) or the disk's
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    raise UserError(_by_hand(tag, f"downloading them failed ({reason})")) from error


def cached_weights(tag: str) -> Path | None:
  """The file of a tag in the Hugging Face cache: the revision its "main" names, else one called "main"; else None."""
  folder = _folder(tag)
  main = folder / "refs" / "main"
  revisions = [main.read_text().strip()] if main.is_file() else []
  for revision in [*revisions, "main"]:
    path = folder / "snapshots" / revision / WEIGHTS
    if path.is_file():
      return path
  return None


def _by_hand(tag: str, reason: str) -> str:
  target = _folder(tag) / "snapshots" / "main" / WEIGHTS
  address = f"https://huggingface.co/timm/{tag}/resolve/main/{WEIGHTS}"
  return f"the weights of {tag!r} are not on this machine, and {reason}; fetch {address} and put it at {target}."


def _folder(tag: str) -> Path:
  return _cache() / f"models--timm--{tag}"


def _cache() -> Path:
  """Where huggingface_hub keeps its files, by the variables it reads."""
  for variable, below in (
    ("HF_HUB_CACHE", ()),
    ("HUGGINGFACE_HUB_CACHE", ()),
    ("HF_HOME", ("hub",)),
    ("XDG_CACHE_HOME", ("huggingface", "hub")),
  ):
    if os.environ.get(variable):
      return Path(os.path.expandvars(os.environ[variable])).expanduser().joinpath(*below)
  return Path.home() / ".cache" / "huggingface" / "hub"


def _read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """The tensors of a file that the library has found to be sound."""
  with open(path, "rb") as file:
    (length,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(length), object_pairs_hook=_once)
    header.pop("__metadata__", None)
    return {name: _tensor(file, 8 + length, name, entry) for name, entry in header.items()}


def _tensor(file: Any, start: int, name: str, entry: dict[str, Any]) -> np.ndarray:
  if entry["dtype"] not in DTYPES:
    raise UserError(f"tensor {name!r} is of type {entry['dtype']}, which is none of {', '.join(DTYPES)}")
  begin, end = entry["data_offsets"]
  file.seek(start + begin)
  return np.fromfile(file, np.uint8, end - begin).view(DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
  """A JSON object, refused where a name comes twice: one of the two would be dropped silently."""
  (name, count), *_ = Counter(name for name, _ in pairs).most_common(1) or [("", 0)]
  if count > 1:
    raise UserError(f"the name {name!r} comes twice")
  return dict(pairs)
