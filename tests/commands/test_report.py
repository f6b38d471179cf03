"""The report command."""

import pytest

from convattn.commands import main


def test_it_draws_again_and_prints_the_paths(tmp_path, capsys):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.5}\n')
  assert main(["report", f"--workdir={tmp_path}"]) == 0
  assert capsys.readouterr().out == f"{tmp_path / 'curves.png'}\n"
  (tmp_path / "confusion.json").write_text('{"class_names": ["a", "b"], "counts": [[3, 0], [1, 2]]}')
  assert main(["report", f"--workdir={tmp_path}"]) == 0
  assert capsys.readouterr().out == f"{tmp_path / 'curves.png'}\n{tmp_path / 'confusion.png'}\n"


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "which run? --workdir=DIR, such as --workdir=runs/digits."),
    (["--workdir=nowhere"], "nowhere/metrics.jsonl is missing or empty"),
    (["--workdr=nowhere"], "there is no option --workdr; did you mean --workdir?"),
  ],
)
def test_a_wrong_request_is_one_line(capsys, arguments, message):
  assert main(["report", *arguments]) == 2
  out, err = capsys.readouterr()
  assert out == ""
  assert err.count("\n") == 1
  assert message in err
