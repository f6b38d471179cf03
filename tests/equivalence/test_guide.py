"""The guide's table is what one measures. That its snippets run, tests/test_docs.py sees."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.equivalence import conv_to_attention, error_bound, off_target_mass

GUIDE = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "equivalence.md").read_text()


def test_the_table_of_errors_is_what_one_measures():
  rows = [
    [float(cell) for cell in row] for row in re.findall(r"^\| (\d+) " + r"\| ([\d.e+-]+) " * 4 + r"\|$", GUIDE, re.M)
  ]
  assert len(rows) > 5
  random = np.random.default_rng(0)
  images = random.standard_normal((2, 16, 16, 5)).astype(np.float32)
  kernel = random.standard_normal((3, 3, 5, 4)).astype(np.float32)

  def error(dtype, alpha):
    arrays = [jnp.asarray(each, dtype) for each in (kernel, images)]
    exact, soft = (
      conv_to_attention(arrays[0], padding="SAME", mode=mode, alpha=value)
      for mode, value in (("table", None), ("quadratic", alpha))
    )
    return float(np.abs(soft[0].apply(soft[1], arrays[1]) - exact[0].apply(exact[1], arrays[1])).max())

  assert f"{np.abs(images).max():.2f}" in GUIDE
  with jax.enable_x64(True):
    for alpha, mass, bound, in_64, in_32 in rows:
      assert mass == pytest.approx(off_target_mass(alpha), rel=0.06)
      assert bound == pytest.approx(error_bound(kernel, alpha, float(np.abs(images).max())), rel=0.06)
      if in_64 > 1e-12:  # above rounding
        assert in_64 == pytest.approx(error(np.float64, alpha), rel=0.06)
      if in_32 > 1e-4:
        assert in_32 == pytest.approx(in_64, rel=0.1)
