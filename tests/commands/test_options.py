"""The command line as options."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convattn.commands.errors import UsageError
from convattn.commands.options import named_options, split_options

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
  with pytest.raises(UsageError) as refusal:
    split_options(arguments)
  assert str(refusal.value) == message


def test_known_options_become_a_mapping():
  assert named_options([("workdir", "a"), ("config", "b")], ("config", "workdir")) == {"workdir": "a", "config": "b"}


def test_an_unknown_option_gives_the_nearest():
  with pytest.raises(UsageError, match=r"there is no option --wrkdir; did you mean --workdir\?"):
    named_options([("wrkdir", "a")], ("config", "workdir"))
  with pytest.raises(UsageError, match=r"did you mean --config.seed\?"):
    named_options([("seed", "1")], ("config",), related=["config.seed", "config.flip"])


def test_an_option_given_twice_is_refused():
  with pytest.raises(UsageError, match="--config is given twice"):
    named_options([("config", "a"), ("config", "a")], ("config",))
