import json
import os

import hypothesis.strategies as st
import pytest
from hypothesis import given

from convattn.training.manifest import MANIFEST, verify, write_manifest

CONTENTS = {"a": b"12345", "b/c": b"", "b/d/e.json": b"{}", "b/d/manifest.json": b"[1]", ".hidden": b"\0"}


@pytest.fixture
def signed(tmp_path):
  return make(tmp_path / "signed")


def make(folder):
  for name, content in CONTENTS.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
  write_manifest(folder)
  return folder


def test_every_file_is_listed_by_its_size_and_digest(signed):
  assert verify(signed) is None
  listed = json.loads((signed / MANIFEST).read_text())["files"]
  assert list(listed) == sorted(CONTENTS)
  # SHA-256 of nothing, and of "{}", as anyone can compute them.
  assert listed["b/c"] == {
    "bytes": 0,
    "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  }
  assert listed["b/d/e.json"]["sha256"] == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_folder_may_be_renamed_and_signed_again(signed, tmp_path):
  moved = signed.rename(tmp_path / "moved")
  assert verify(moved) is None
  first = (moved / MANIFEST).read_bytes()
  write_manifest(moved)
  assert (moved / MANIFEST).read_bytes() == first


@pytest.mark.parametrize("name", CONTENTS)
def test_every_missing_file_is_named(signed, name):
  (signed / name).unlink()
  assert verify(signed) == f"{name} is missing"


@pytest.mark.parametrize("name", ["f", "b/f", "b/d/.f", "x/y"])
def test_every_other_file_is_named(signed, name):
  (signed / name).parent.mkdir(exist_ok=True)
  (signed / name).touch()
  assert verify(signed) == f"{name} is not in {MANIFEST}"


def test_another_size_and_another_content_are_named(signed):
  (signed / "a").write_bytes(b"1234")
  assert verify(signed) == "a has 4 bytes instead of 5"
  (signed / "a").write_bytes(b"12346")
  assert verify(signed) == "a has another SHA-256 than when it was written"


def test_a_folder_where_a_file_was_is_seen(signed):
  (signed / "a").unlink()
  (signed / "a").mkdir()
  assert verify(signed) == "a is missing"


def test_a_manifest_must_be_there(signed):
  (signed / MANIFEST).unlink()
  assert verify(signed) == f"{MANIFEST} is missing"
  assert verify(signed / "nowhere") == f"{MANIFEST} is missing"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"files": 3}', b'{"files": {"a": 3}}', b"\xff\xfe"])
def test_a_manifest_of_something_else_cannot_be_read(signed, content):
  (signed / MANIFEST).write_bytes(content)
  problem = verify(signed)
  assert problem.startswith(f"{MANIFEST} cannot be read: ")
  assert len(problem.splitlines()) == 1


@given(st.data())
def test_no_flipped_bit_of_any_file_or_of_the_manifest_goes_unseen(tmp_path_factory, data):
  folder = make(tmp_path_factory.mktemp("flipped"))
  name = data.draw(st.sampled_from([name for name, content in CONTENTS.items() if content] + [MANIFEST] * 3))
  content = bytearray((folder / name).read_bytes())
  content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
  (folder / name).write_bytes(content)
  assert verify(folder) is not None


def test_a_manifest_is_renamed_into_place_when_all_is_synced(signed, monkeypatch):
  happened = []
  fsync, replace = os.fsync, type(signed).replace

  def synced(descriptor):
    happened.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    fsync(descriptor)

  def replaced(path, target):
    happened.append("renamed")
    return replace(path, target)

  monkeypatch.setattr(os, "fsync", synced)
  monkeypatch.setattr(type(signed), "replace", replaced)
  write_manifest(signed)
  before = {*happened[: happened.index("renamed")]}
  assert before >= {str(signed / name) for name in CONTENTS} | {str(signed / name) for name in ("b", "b/d")}
  assert happened[-3:] == [str(signed / f".{MANIFEST}.partial"), "renamed", str(signed)]
