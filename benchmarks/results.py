"""What a benchmark leaves on the disk."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def record(options: argparse.Namespace, device: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
  """What was asked for, where it ran, and what came out."""
  return {"options": {name: str(value) for name, value in vars(options).items()}, "device": device, "rows": rows}


def write_json(path: Path, result: dict[str, Any]) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(result, indent=2) + "\n")
