import json

from convattn.training.writer import Writer, last_times, read_metrics


def test_a_line_is_on_the_disk_when_write_returns(tmp_path):
  with Writer(tmp_path, 0) as lines:
    lines.write(3, {"train/loss": 0.1, "train/gradient_norm": float("inf")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
      "step": 3, "train/loss": 0.1, "train/gradient_norm": None
    }  # fmt: skip


def test_lines_after_the_restored_step_and_half_lines_are_cut(tmp_path):
  path = tmp_path / "metrics.jsonl"
  with Writer(tmp_path, 0) as lines:
    for step in (2, 4, 6):
      lines.write(step, {"train/loss": 1 / step})
  kept = path.read_text().splitlines()[:2]
  with path.open("a") as file:
    file.write('{"step": 8, "train/lo')
  with Writer(tmp_path, 4) as lines:
    assert path.read_text().splitlines() == kept
    lines.write(6, {"train/loss": 0.5})
  assert [line["step"] for line in read_metrics(path)] == [2, 4, 6]


def test_a_last_line_without_its_newline_is_not_counted(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 2}\n{"step": 4}')
  with Writer(tmp_path, 9):
    pass
  assert path.read_text() == '{"step": 2}\n'


def test_no_file_has_no_lines(tmp_path):
  assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_the_newest_times_up_to_a_step(tmp_path):
  assert last_times(tmp_path / "metrics.jsonl", 9) == {}
  with Writer(tmp_path, 0) as lines:
    lines.write(2, {"seconds": 1.5, "images_per_second": 80.0})
    lines.write(4, {"seconds": 2.5})
    lines.write(6, {"seconds": 9.0, "images_per_second": 10.0})
  assert last_times(tmp_path / "metrics.jsonl", 5) == {"seconds": 2.5, "images_per_second": 80.0}
