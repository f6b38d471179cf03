"""convattn.errors and convattn.files: what every room may use."""

import pytest
from hypothesis import given, strategies as st

from convattn.errors import counted, nearest, one_line
from convattn.files import write_whole

NAMES = st.lists(st.text(min_size=1), max_size=6, unique=True)


@given(name=st.text(), known=NAMES)
def test_the_nearest_are_one_to_three_of_the_known_or_all_where_none_is_alike(name, known):
  found = nearest(name, known)
  assert set(found) <= set(known)
  assert min(len(known), 1) <= len(found) <= 3 or found == known


def test_where_none_is_alike_a_few_are_all_named_and_of_many_the_nearest():
  assert nearest("xyz", ["train", "export", "report"]) == ["train", "export", "report"]
  assert len(nearest("xyz", [f"train_{i}" for i in range(13)])) <= 3


@given(known=NAMES)
def test_a_known_name_is_nearest_to_itself(known):
  assert all(nearest(name, known)[0] == name for name in known if "." not in name)


@pytest.mark.parametrize(
  ("name", "meant"), [("coatnet_O", "coatnet_0"), ("lr", "peak_learning_rate"), ("batch", "eval_batch_size")]
)
def test_a_mistyped_or_shortened_name_is_found(name, meant):
  assert nearest(name, ["seed", "coatnet_0", "peak_learning_rate", "eval_batch_size"])[0] == meant


def test_one_of_a_thing_is_not_many():
  assert [counted(number, "picture") for number in (0, 1, 2, 1200)] == [
    "0 pictures", "1 picture", "2 pictures", "1,200 pictures",
  ]  # fmt: skip


def test_an_error_is_told_on_one_line():
  assert one_line(ValueError("a\n  b\tc")) == "a b c"
  assert one_line("abcd", 3) == "abc"


def test_files_are_replaced_together_or_not_at_all(tmp_path):
  first, second = tmp_path / "first", tmp_path / "second"
  first.write_bytes(b"old")
  second.mkdir()
  (tmp_path / ".second.partial").mkdir()  # so that the second one cannot be written
  with pytest.raises(IsADirectoryError):
    write_whole({first: b"new", second: b"new"})
  assert first.read_bytes() == b"old"
  assert not (tmp_path / ".first.partial").exists()
  write_whole({first: b"new", tmp_path / "third": b""})
  assert (first.read_bytes(), (tmp_path / "third").read_bytes()) == (b"new", b"")
