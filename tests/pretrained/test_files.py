import json
import os
import pickle
import struct
import sys
import types
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from convattn.pretrained import find_weights, read_safetensors
from convattn.pretrained.files import DTYPES, cached_weights

TAG = "coatnet_0_rw_224.sw_in1k"
ADDRESS = f"https://huggingface.co/timm/{TAG}/resolve/main/model.safetensors"
PATH_IN_CACHE = f"models--timm--{TAG}/snapshots/main/model.safetensors"


def content(header, data=b""):
  """The bytes of a safetensors file: the header's length, the header, the data."""
  header = header if isinstance(header, bytes) else json.dumps(header).encode()
  return struct.pack("<Q", len(header)) + header + data


def entry(begin, end, shape=(1,), dtype="F32"):
  return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def refusal(path):
  with pytest.raises(ValueError) as refused:
    read_safetensors(path)
  text = str(refused.value)
  assert "\n" not in text and repr(str(path)) in text and len(text) < 600
  return text


def test_every_type_is_read_bit_for_bit(tmp_path):
  rng, header, data, expected = np.random.default_rng(0), {"__metadata__": {"format": "pt"}}, b"", {}
  for name, dtype in DTYPES.items():
    values = rng.integers(0, 2 if name == "BOOL" else 256, (2, 3, np.dtype(dtype).itemsize), np.uint8)
    header[f"some.{name}"] = entry(len(data), len(data) + values.nbytes, (2, 3), name)
    data, expected[f"some.{name}"] = data + values.tobytes(), (np.dtype(dtype), values.tobytes())
  path = tmp_path / "all.safetensors"
  path.write_bytes(content(header, data))
  tensors = read_safetensors(path)
  assert {name: (array.dtype, array.tobytes()) for name, array in tensors.items()} == expected
  assert all(array.shape == (2, 3) and array.flags.writeable for array in tensors.values())


def test_every_type_is_the_one_its_name_says(tmp_path):
  """The number one, as each format writes it."""
  ones = {"F64": "000000000000f03f", "F32": "0000803f", "F16": "003c", "BF16": "803f"}
  ones |= {"F8_E4M3": "38", "F8_E4M3FNUZ": "40", "F8_E5M2": "3c", "F8_E5M2FNUZ": "40", "F8_E8M0": "7f"}
  ones |= {"C64": "0000803f00000000", "BOOL": "01"}
  ones |= {f"{kind}{bits}": "01" + "00" * (bits // 8 - 1) for kind in "UI" for bits in (8, 16, 32, 64)}
  assert ones.keys() == DTYPES.keys()
  for name, one in ones.items():
    data = bytes.fromhex(one)
    (tmp_path / name).write_bytes(content({"a": entry(0, len(data), (), name)}, data))
    (array,) = read_safetensors(tmp_path / name).values()
    assert array.shape == () and complex(array) == 1
    assert (np.dtype(array.dtype).kind == "i") == (name[0] == "I")


def test_what_the_library_writes_is_read(tmp_path):
  arrays = {
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "wide": np.random.default_rng(0).standard_normal((3, 5)),
    "narrow": np.arange(5, dtype=np.float32).astype(jnp.bfloat16),
  }
  save_file(arrays, tmp_path / "some.safetensors")
  tensors = read_safetensors(str(tmp_path / "some.safetensors"))
  assert sorted(tensors) == sorted(arrays) and tensors["wide"].dtype == np.float64
  for name, array in arrays.items():
    np.testing.assert_array_equal(tensors[name], array)


HOSTILE = {
  "a length of 2^60": struct.pack("<Q", 2**60) + b"{}",
  "a length beyond the file": struct.pack("<Q", 1000) + b"{}",
  "less than a length": b"\x08\x00",
  "no JSON": content(b"<html>not found</html>"),
  "no object": content(b"[1, 2]"),
  "no text": content(b"\xff\xfe{}"),
  "brackets without end": content(b'{"a":' + b"[" * 9999),
  "a negative offset": content({"a": entry(-4, 0)}, bytes(4)),
  "offsets that run back": content({"a": entry(4, 0)}, bytes(4)),
  "offsets beyond the file": content({"a": entry(0, 2**63)}, bytes(4)),
  "overlapping tensors": content({"a": entry(0, 4), "b": entry(0, 4)}, bytes(4)),
  "a gap": content({"a": entry(4, 8)}, bytes(8)),
  "bytes left over": content({"a": entry(0, 4)}, bytes(8)),
  "a shape that overflows": content({"a": entry(0, 4, (2**62, 4))}, bytes(4)),
  "a huge empty shape": content({"a": entry(0, 0, (2**62, 0))}),
  "a shape of another size": content({"a": entry(0, 4, (2,))}, bytes(4)),
  "an unknown type": content({"a": entry(0, 4, dtype="F33")}, bytes(4)),
  "a type of half a byte": content({"a": entry(0, 1, (2,), "F4")}, bytes(1)),
  "a name twice": content(b'{"a":%b,"a":%b}' % ((json.dumps(entry(0, 4)).encode(),) * 2), bytes(4)),
  "a type that quotes lines": content({"a": entry(0, 4, dtype="x\ny" * 2000)}, bytes(4)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_one_line(tmp_path, content):
  path = tmp_path / "model.safetensors"
  path.write_bytes(content)
  assert "is cut short, damaged or no safetensors file (" in refusal(path)


def test_a_file_cut_anywhere_is_refused(tmp_path):
  save_file({"a": np.arange(3, dtype=np.float32), "b": np.arange(4)}, tmp_path / "whole.safetensors")
  whole, path = (tmp_path / "whole.safetensors").read_bytes(), tmp_path / "part.safetensors"
  for length in range(1, len(whole), 7):
    path.write_bytes(whole[:length])
    assert "cut short" in refusal(path)


def test_damaged_headers_never_escape(tmp_path):
  """Whatever a byte of the header becomes, the file is read or refused in one line."""
  save_file({"a": np.arange(3, dtype=np.float32), "b": np.arange(4)}, tmp_path / "whole.safetensors")
  whole, path = (tmp_path / "whole.safetensors").read_bytes(), tmp_path / "part.safetensors"
  rng, refusals = np.random.default_rng(0), []
  for _ in range(200):
    bad = bytearray(whole)
    bad[rng.integers(len(whole) - 44)] = rng.choice(list(b'0123456789{}[]",:-.eFIU\x00\xff'))
    path.write_bytes(bad)
    try:
      read_safetensors(path)
    except ValueError as error:
      refusals.append(str(error))
  assert len(refusals) > 100 and all(str(path) in text and "\n" not in text for text in refusals)


def test_nothing_a_folder_and_an_empty_file_are_refused(tmp_path):
  assert "is not there" in refusal(tmp_path / "no.safetensors")
  assert "is a folder" in refusal(tmp_path)
  (tmp_path / "empty.safetensors").touch()
  assert "is empty" in refusal(tmp_path / "empty.safetensors")


class Trap:
  def __reduce__(self):
    return (os.mkdir, (self.folder,))


def test_pickles_are_refused_and_not_run(tmp_path):
  trap = Trap()
  trap.folder = str(tmp_path / "sprung")
  old, new = tmp_path / "pytorch_model.bin", tmp_path / "renamed.safetensors"
  old.write_bytes(pickle.dumps(trap))
  with zipfile.ZipFile(new, "w") as archive:
    archive.writestr("archive/data.pkl", pickle.dumps(trap))
  (tmp_path / "legacy.pth").write_bytes(b"\x00" * 100)
  for path in (old, new, tmp_path / "legacy.pth"):
    assert "nothing is unpickled" in refusal(path) and "convert it to safetensors" in refusal(path)
  assert not (tmp_path / "sprung").exists()


def test_the_ending_alone_refuses_nothing(tmp_path):
  save_file({"a": np.ones(3)}, tmp_path / "weights.bin")
  np.testing.assert_array_equal(read_safetensors(tmp_path / "weights.bin")["a"], np.ones(3))


@pytest.fixture
def home(tmp_path, monkeypatch):
  """A home without a cache, on a machine without huggingface_hub."""
  for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
    monkeypatch.delenv(variable, raising=False)
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  return tmp_path


def put(path):
  path.parent.mkdir(parents=True)
  path.touch()
  return path


@pytest.mark.parametrize(
  "environment, folder",
  [
    ({}, ".cache/huggingface/hub"),
    ({"XDG_CACHE_HOME": "HOME/x"}, "x/huggingface/hub"),
    ({"HF_HOME": "~/y", "XDG_CACHE_HOME": "HOME/x"}, "y/hub"),
    ({"HUGGINGFACE_HUB_CACHE": "$HOME/z", "HF_HOME": "~/y"}, "z"),
    ({"HF_HUB_CACHE": "HOME/w", "HUGGINGFACE_HUB_CACHE": "$HOME/z", "HF_HOME": "~/y"}, "w"),
    ({"HF_HUB_CACHE": ""}, ".cache/huggingface/hub"),
  ],
)
def test_the_cache_lies_where_its_variables_say(home, monkeypatch, environment, folder):
  for name, value in environment.items():
    monkeypatch.setenv(name, value.replace("HOME/", f"{home}/") if value.startswith("HOME") else value)
  assert cached_weights(TAG) is None
  with pytest.raises(ValueError) as refused:
    find_weights(TAG)
  target = home / folder / PATH_IN_CACHE
  assert f"fetch {ADDRESS} and put it at {target}." in str(refused.value)
  put(target)
  assert find_weights(TAG) == cached_weights(TAG) == target


def test_the_main_revision_is_taken(home):
  folder = home / ".cache" / "huggingface" / "hub" / f"models--timm--{TAG}"
  old, new = (put(folder / "snapshots" / (revision * 20) / "model.safetensors") for revision in ("ab", "cd"))
  assert cached_weights(TAG) is None  # nothing says which one
  put(folder / "refs" / "main").write_text("cd" * 20)
  assert find_weights(TAG) == new
  by_hand = put(folder / "snapshots" / "main" / "model.safetensors")
  assert find_weights(TAG) == new
  by_hand.unlink()
  new.unlink()  # a revision of which only other files were fetched
  assert cached_weights(TAG) is None and old.exists()


def test_without_the_library_the_error_says_how_to_get_it(home):
  with pytest.raises(ValueError, match=r"huggingface_hub.*is not installed \(pip install huggingface_hub\)"):
    find_weights(TAG)


def test_the_library_downloads_into_the_same_cache(home, monkeypatch):
  asked = []

  def hf_hub_download(repository, file, cache_dir):
    asked.append((repository, file))
    return str(put(cache_dir / f"models--{repository.replace('/', '--')}" / "snapshots" / "main" / file))

  monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=hf_hub_download))
  path = find_weights(TAG)
  assert path == home / ".cache" / "huggingface" / "hub" / PATH_IN_CACHE
  assert find_weights(TAG) == path and asked == [(f"timm/{TAG}", "model.safetensors")]


@pytest.mark.parametrize(
  "failure", [ConnectionError("no\nnetwork"), RuntimeError("client closed"), OSError(28, "full")]
)
def test_a_failed_download_says_what_to_fetch_and_where_to_put_it(home, monkeypatch, failure):
  def hf_hub_download(*_, **__):
    raise failure

  monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=hf_hub_download))
  with pytest.raises(ValueError) as refused:
    find_weights(TAG)
  text = str(refused.value)
  assert type(failure).__name__ in text and ADDRESS in text and "\n" not in text
  assert str(home / ".cache" / "huggingface" / "hub" / PATH_IN_CACHE) in text
