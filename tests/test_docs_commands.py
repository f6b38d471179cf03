"""The shell commands of every page: each command, option, setting and file that they name is there."""

import re
import shlex
import tomllib

import pytest

from convattn.commands import COMMANDS, main
from tests.pages import PAGES, ROOT, blocks


def command_lines(page: str) -> list[list[str]]:
  lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
  return [words for line in lines if (words := shlex.split(line, comments=True))]


def check_command(words: list[str], out) -> None:
  """Fails where a command, one of its options, settings or files is not there."""
  match words:
    case ["make", target, *variables]:
      makefile = (ROOT / "Makefile").read_text()
      assert target in re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE)
      known = re.findall(r"\[(\w+)=", re.search(r'@echo "make TARGET (.*)"', makefile)[1])
      assert [each for each in variables if each.partition("=")[0] not in known] == []
      values = dict(each.split("=", 1) for each in variables)
      if target == "train":
        config = [f"--config={values['CONFIG']}"] if "CONFIG" in values else []
        check_command(["python", "train.py", *config, *shlex.split(values.get("ARGS", ""))], out)
    case ["python", "train.py", *arguments] | ["convattn", "train", *arguments]:
      assert main(["train", *arguments, "--help"]) == 0  # reads the file and all settings first
    case ["convattn", name, *arguments]:
      assert name in COMMANDS
      assert options_of(arguments) <= options_in_help(name, out)
    case ["python", "-m", module, *arguments]:
      source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
      assert [each for each in options_of(arguments) if f'"{each}"' not in source] == []
    case ["pip", "install", what]:  # convattn is not on PyPI
      extra = re.fullmatch(r"\.(?:\[(\w+)\])?", what)[1]
      assert (
        extra is None
        or extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
      )
    case ["source", ".venv/bin/activate"]:
      pass
    case _:
      raise AssertionError(f"no rule for {words}")


def options_of(arguments: list[str]) -> set[str]:
  return {each.partition("=")[0] for each in arguments if each.startswith("--")}


def options_in_help(name: str, out) -> set[str]:
  out.readouterr()
  assert main([name, "--help"]) == 0
  # Of the settings those that are listed, not the placeholder.
  return set(re.findall(r"--[a-z][\w.]*[a-z_0-9]\b(?!\.)", out.readouterr().out))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")])
def test_the_commands_of_a_page_are_there(page, monkeypatch, capsys):
  monkeypatch.chdir(ROOT)
  lines = command_lines(page)
  assert lines
  for words in lines:
    check_command(words, capsys)


@pytest.mark.parametrize(
  "line",
  [
    "make trian",
    "make train WORKDRI=x",
    "make train ARGS=--config.sead=1",
    "python train.py --config=configs/digit.py",
    "python train.py --config.model.nam=coatnet_0",
    "convattn predikt",
    "convattn predict --tops=3",
    "convattn evaluate --config.data.nmae=digits",
    "python -m benchmarks.compare --modle=x",
    "python -m benchmarks.comparison",
    "pip install convattn",
    "pip install '.[peers]'",
    "convatn predict",
  ],
)
def test_a_wrong_command_is_seen(line, monkeypatch, capsys):
  monkeypatch.chdir(ROOT)
  with pytest.raises((AssertionError, OSError, TypeError)):
    check_command(shlex.split(line), capsys)


def test_the_page_of_commands_has_every_option(capsys):
  sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGES["docs/commands.md"], re.DOTALL | re.MULTILINE))
  assert set(COMMANDS) <= set(sections)
  for name in COMMANDS:
    named = {each for each in options_in_help(name, capsys) if not each.startswith("--config.")}
    assert named <= set(re.findall(r"`(--\w+)", sections[name])), name


def test_what_the_commands_say_is_quoted_as_it_is(capsys):
  page = PAGES["docs/commands.md"]
  assert main(["summary", "coatnet_22"]) == 2
  assert capsys.readouterr().err.strip() in page.splitlines()
  assert main(["summary", "coatnet_2", "--image_size=384"]) == 0
  assert capsys.readouterr().out in page


def test_the_settings_that_are_named_are_there(capsys):
  known = {name.removeprefix("--config.") for name in options_in_help("train", capsys) if name.startswith("--config.")}
  sections = {name.partition(".")[0] for name in known if "." in name}
  for page, text in PAGES.items():
    named = set(re.findall(r"--config\.([a-z_]+(?:\.[a-z_0-9]+)*)", text)) - sections
    assert named <= known, page
