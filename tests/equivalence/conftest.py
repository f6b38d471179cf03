"""Lets the tests of this folder import by_lax."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
