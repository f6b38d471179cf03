"""Every signal that ends a job; what a run does at one is in test_signals.py."""

import os
import signal

import pytest

from convattn.data.workers import ENDING
from convattn.training import Terminated
from convattn.training.signals import catching, leaving_at_once


def raised(number):
  os.kill(os.getpid(), number)
  while signal.SIGUSR1 in signal.sigpending():
    pass


@pytest.mark.parametrize("number", ENDING)
def test_each_is_kept_for_the_loop(number, tmp_path):
  before = signal.getsignal(number)
  with catching() as stop:
    raised(number)
    assert stop.is_due()
    assert type(stop.exception(1, 2, tmp_path)) is (KeyboardInterrupt if number == signal.SIGINT else Terminated)
  assert signal.getsignal(number) == before


def test_nohup_stays_as_it_is():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with catching() as stop:
      raised(signal.SIGHUP)
      assert not stop.is_due()
  finally:
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", set(ENDING) - {signal.SIGINT})
def test_before_the_loop_a_run_ends_at_once(number, tmp_path):
  with pytest.raises(Terminated) as ended, leaving_at_once(tmp_path):
    raised(number)
  assert ended.value.message.startswith(f"ended by {number.name}; the same command goes on")
  assert ended.value.code == 0
