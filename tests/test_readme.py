"""The README's Python runs as written."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def test_there_is_python_in_it():
  assert len(BLOCKS) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs_as_written(number, tmp_path):
  code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{BLOCKS[number]}"
  done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr


def test_the_files_it_names_exist():
  named = re.findall(r"`((?:convattn|configs|tests)/[\w/.]*)`", (ROOT / "README.md").read_text())
  assert len(named) > 8
  assert [path for path in named if not (ROOT / path).exists()] == []
  for image in re.findall(r"!\[.*\]\((.*)\)", (ROOT / "README.md").read_text()):
    assert (ROOT / image).exists()
