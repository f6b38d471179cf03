"""Arrays in a page: back to within the precision asked for, in Python and in the browser alike."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays

from convattn.viz import explore
from convattn.viz.packing import num_bytes, pack, pack_as, unpack

FLOATS = st.floats(-1e4, 1e4, width=32) | st.sampled_from([float("nan"), float("-inf"), 0.0])


def difference(one, other):
  """The largest one, where both are finite; elsewhere they must be the same."""
  np.testing.assert_array_equal(np.where(np.isfinite(one), 0, one), np.where(np.isfinite(other), 0, other))
  finite = np.isfinite(one)
  return np.abs(one[finite].astype(np.float64) - other[finite]).max(initial=0)


@settings(deadline=None, max_examples=200)
@given(
  arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5), elements=FLOATS),
  st.sampled_from([1e-4, 1e-2, 1.0, 50.0]),
)
def test_what_is_packed_comes_back(values, precision):
  back = unpack(pack(values, precision))
  assert back.shape == values.shape
  assert back.dtype == np.float32
  assert difference(values, back) <= precision * 1.001 + 1e-7 * 1e4


@pytest.mark.parametrize(
  ("span", "dtype", "bytes_each"),
  [(0.0, "uint8", 1), (0.05, "uint8", 1), (0.051, "uint16", 2), (12.9, "uint16", 2), (13.2, "float32", 4)],
)
def test_no_more_bytes_than_the_precision_needs(span, dtype, bytes_each):
  values = np.linspace(-1, -1 + span, 300)
  blob = pack(values, 1e-4)
  assert blob["dtype"] == dtype
  assert num_bytes(blob) == 4 * (300 * bytes_each // 3)
  assert difference(values, unpack(blob)) <= 1e-4


def test_the_ends_of_the_range_are_no_reserved_codes():
  for values in (np.linspace(0, 0.05, 254), np.linspace(0, 1, 70000)):
    back = unpack(pack(values))
    assert np.isfinite(back).all()
    np.testing.assert_allclose(back[[0, -1]], values[[0, -1]], atol=1e-7)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32"])
def test_what_is_packed_as_it_is_comes_back_exactly(dtype):
  values = np.arange(200).reshape(2, 4, 25) * (1 if dtype == "uint8" else -1)
  back = unpack(pack_as(values, dtype))
  np.testing.assert_array_equal(back, values)
  assert back.dtype == (dtype if dtype in ("uint8", "int32") else "float32")


@pytest.mark.parametrize(
  ("refused", "reason"),
  [
    (lambda: pack(np.array([1, np.inf])), "inf in it"),
    (lambda: pack_as(np.array([256]), "uint8"), "256 do not fit in uint8"),
    (lambda: pack_as(np.array([-1]), "uint8"), "from -1 to"),
    (lambda: pack_as(np.array([1.0]), "float64"), "'float64'"),
  ],
)
def test_what_has_no_code_is_refused(refused, reason):
  with pytest.raises(ValueError, match=reason):
    refused()


def test_the_browser_reads_what_python_reads(visit):
  rng = np.random.default_rng(0)
  odd = np.array([[np.nan, -np.inf, 0.25], [-0.5, 0.125, 0.0]])
  blobs = {
    "uint8": pack(odd / 20),
    "uint16": pack(np.concatenate([odd, rng.normal(size=(4, 3))])),
    "float32": pack(odd * 1000),
    "constant": pack(np.full((3, 2), 7.25)),
    "empty": pack(np.zeros((0, 4))),
    "pixels": pack_as(rng.integers(0, 256, (3, 5, 3)), "uint8"),
    "cells": pack_as(np.array([-1, 0, 70000]), "int32"),
    "halves": pack_as(np.array([0, -0.0, 1, 65504, 6e-8, 1e-5, -np.pi, np.nan, np.inf, -np.inf]), "float16"),
  }
  assert [blobs[name]["dtype"] for name in ("uint8", "uint16", "float32")] == ["uint8", "uint16", "float32"]
  tab = visit(explore([np.full((1, 1, 2, 2), 0.5)]))
  for name, blob in blobs.items():
    # As text, since JSON has no nan.
    read = tab.evaluate("blob => Array.from(convattn.unpack(blob).floats(), String)", blob)
    expected = unpack(blob).ravel().astype(np.float32)
    np.testing.assert_array_equal(np.array(read, np.float64).astype(np.float32), expected, name)
  part = tab.evaluate("blob => Array.from(convattn.unpack(blob).floats(5, 9))", blobs["uint16"])
  np.testing.assert_array_equal(np.float32(part), unpack(blobs["uint16"]).ravel()[5:9])
