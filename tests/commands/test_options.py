"""The command line as options."""

import os
import subprocess

import pytest
from hypothesis import given, strategies as st

from convattn.commands.options import (
  as_typed,
  named_options,
  output_file,
  positive_decimal,
  positive_number,
  split_options,
  split_positional,
)
from convattn.errors import UserError

names = st.text("abc._", min_size=1)
values = st.text().filter(lambda text: not text.startswith("--"))


@given(options=st.lists(st.tuples(names, values)))
def test_both_spellings_mean_the_same(options):
  joined = [f"--{name}={value}" for name, value in options]
  apart = [part for name, value in options for part in (f"--{name}", value)]
  assert split_options(joined) == split_options(apart) == options


def test_a_value_may_hold_dashes_and_equals_signs():
  assert split_options(["--a=--b=c", "--d", "-1"]) == [("a", "--b=c"), ("d", "-1")]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["digits"], "expected an option such as --name=value, got 'digits'."),
    (["-a=1"], "expected an option such as --name=value, got '-a=1'."),
    (["--"], "expected an option such as --name=value, got '--'."),
    (["--a"], "--a needs a value: --a=VALUE."),
    (["--a", "--b=1"], "--a needs a value: --a=VALUE."),
  ],
)
def test_what_is_no_option_is_refused(arguments, message):
  with pytest.raises(UserError) as refusal:
    split_options(arguments)
  assert str(refusal.value) == message


def test_known_options_become_a_mapping():
  assert named_options([("workdir", "a"), ("config", "b")], ("config", "workdir")) == {"workdir": "a", "config": "b"}


def test_an_unknown_option_gives_the_nearest():
  with pytest.raises(UserError, match=r"there is no option --wrkdir; did you mean --workdir\?"):
    named_options([("wrkdir", "a")], ("config", "workdir"))
  with pytest.raises(UserError, match=r"did you mean --config.seed\?"):
    named_options([("seed", "1")], ("config",), related=["config.seed", "config.flip"])


def test_of_an_option_given_twice_the_last_value_counts():
  assert named_options([("config", "a"), ("config", "b")], ("config",)) == {"config": "b"}


plain = st.text().filter(lambda text: not text.startswith("-"))


@given(
  parts=st.lists(st.one_of(st.tuples(names, values, st.booleans()), plain)), behind=st.none() | st.lists(st.text())
)
def test_options_and_other_arguments_come_apart_in_order(parts, behind):
  arguments, options, others = [], [], []
  for part in parts:
    if isinstance(part, str):
      arguments.append(part)
      others.append(part)
    else:
      name, value, joined = part
      arguments += [f"--{name}={value}"] if joined else [f"--{name}", value]
      options.append((name, value))
  if behind is not None:
    arguments += ["--", *behind]
    others += behind
  assert split_positional(arguments) == (options, others)


def test_without_other_arguments_both_ways_to_split_agree():
  arguments = ["--a=--b=c", "--d", "-1", "--e", ""]
  assert split_positional(arguments) == (split_options(arguments), [])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["a.png", "--a"], "--a needs a value: --a=VALUE."),
    (["--a", "--b=1", "a.png"], "--a needs a value: --a=VALUE."),
    (["--a", "--", "a.png"], "--a needs a value: --a=VALUE."),
    (["-a", "a.png"], "expected an option such as --name=value, got '-a'."),
  ],
)
def test_an_option_without_its_value_is_refused_among_other_arguments(arguments, message):
  with pytest.raises(UserError) as refusal:
    split_positional(arguments)
  assert str(refusal.value) == message


@pytest.mark.parametrize("text", ["0", "-1", "1.0", "1_000", "²", "", "x", " 1"])
def test_what_is_no_positive_number_is_refused(text):
  assert positive_number("top", "12") == 12
  with pytest.raises(UserError) as refusal:
    positive_number("top", text)
  assert str(refusal.value) == f"--top must be a whole number of at least 1, got {text!r}."


def test_an_output_file_has_a_folder_and_is_none(tmp_path):
  assert output_file("out", str(tmp_path / "a.json")) == tmp_path / "a.json"
  with pytest.raises(UserError, match="--out must name a file, got .*, which is a folder"):
    output_file("out", str(tmp_path))
  with pytest.raises(UserError, match="there is no folder '.*missing'; make it"):
    output_file("out", str(tmp_path / "missing" / "a.json"))


@pytest.mark.parametrize(
  "started, said",
  [("/x/convattn/__main__.py", "python -m convattn study"), ("/bin/convattn", "convattn study")],
)
def test_a_command_line_is_told_as_a_shell_takes_it(monkeypatch, started, said):
  monkeypatch.setattr("sys.argv", [started])
  assert as_typed("study", ["a b:c", "--workdir=d"]) == f"{said} 'a b:c' --workdir=d"


@pytest.mark.parametrize("odd", ["a\nb", "caf\udce9 \x1b", "it's\t\\n", "\u2028x", "$'\x07'"])
def test_bash_reads_a_command_line_back_whatever_is_in_it(monkeypatch, odd):
  monkeypatch.setattr("sys.argv", ["convattn"])
  line = as_typed("train", [f"--workdir={odd}", odd])
  assert line.isprintable()
  _, _, arguments = line.partition(" train ")
  script = f"printf '%s\\0' {arguments}"
  found = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.split(b"\0")[:-1]
  assert found == [os.fsencode(f"--workdir={odd}"), os.fsencode(odd)]


def test_a_decimal_is_a_number_above_zero():
  assert [positive_decimal("x", text) for text in ("20", "0.1", ".5", "1.25")] == [20, 0.1, 0.5, 1.25]
  for text in ("0", "0.0", "-1", "nan", "inf", "1e3", "1.", "", "a", "1,5"):
    with pytest.raises(UserError, match="--x must be a number above 0 such as 20 or 0.5, got "):
      positive_decimal("x", text)
