"""Compiled programs are kept between commands; nothing that goes wrong with them is the user's concern."""

import functools
import os
import resource
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convattn.commands import compilation_cache

ENTRIES = {
  "truncated": lambda data: data[: len(data) // 2],
  "empty": lambda data: b"",
  "zeroed": lambda data: bytes(len(data)),
  "half of it zeroed": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
  "garbage": lambda data: np.random.default_rng(0).bytes(len(data)),
  "one bit": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
  "no program": lambda data: jax._src.compilation_cache.compress_executable(b"\0\0\0\1no program"),
}


def program(x):
  return jnp.tanh(x @ x).sum()


X = np.arange(16, dtype=np.float32).reshape(4, 4) / 16


def compute(x=X):
  """The program's result, compiled anew or loaded: JAX takes another function for another program.

  jax.clear_caches() would let all later tests of this process compile everything anew, and take long itself.
  """

  @jax.jit
  @functools.wraps(program)
  def fresh(x):
    return program(x)

  return np.asarray(fresh(x)).tobytes()


def kept(folder):
  return sorted(folder.glob("jit_program-*-cache"))


def start():
  with compilation_cache.kept():
    return compute()


def test_the_second_start_loads(programs, events, capfd):
  assert not programs.exists()
  first = start()
  assert set(events) == {"misses"}
  assert len(kept(programs)) == 1
  events.clear()
  assert start() == first
  assert set(events) == {"hits"}
  assert capfd.readouterr() == ("", "")


def test_outside_of_a_command_nothing_is_kept(programs, events):
  start()
  events.clear()
  before = sorted(programs.iterdir())
  jax.jit(lambda x: program(x) + 1)(X)
  assert (events, sorted(programs.iterdir())) == ([], before)
  assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.parametrize("damage", ENTRIES)
def test_a_broken_entry_is_written_anew(programs, events, capfd, damage):
  first = start()
  (entry,) = kept(programs)
  sound = entry.read_bytes()
  entry.write_bytes(ENTRIES[damage](sound))
  events.clear()
  assert start() == first
  assert "misses" in events
  assert len(kept(programs)) == 1
  events.clear()
  assert start() == first
  assert set(events) == {"hits"}
  assert capfd.readouterr() == ("", "")


def test_jax_by_itself_keeps_a_broken_entry(programs):
  jax.config.update("jax_compilation_cache_dir", str(programs))
  compute()
  kept(programs)[0].write_bytes(b"")
  for _ in range(2):
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache entry for 'jit_program'"):
      compute()
  assert kept(programs)[0].read_bytes() == b""


def test_sound_entries_of_other_programs_stay(programs):
  start()
  (entry,) = kept(programs)
  others = [programs / name for name in (f"jit_program-{'0' * 64}-cache", "jit_program_2-0-cache", "jit_other-0-cache")]
  others[0].write_bytes(entry.read_bytes())
  for other in others[1:]:
    other.write_bytes(b"broken, but not asked for")
  entry.write_bytes(b"")
  start()
  assert all(other.exists() for other in (entry, *others))


def test_an_entry_that_is_being_written_ends_whole(programs, events, capfd):
  first = start()
  (entry,) = kept(programs)
  sound = entry.read_bytes()
  with entry.open("wb", buffering=0) as writer:  # as another process writes it, in place
    writer.write(sound[: len(sound) // 2])
    assert start() == first
    writer.write(sound[len(sound) // 2 :])
  events.clear()
  assert start() == first
  assert set(events) == {"hits"}
  assert capfd.readouterr().err == ""


def test_files_that_nobody_could_repair_are_not_made(programs):
  with compilation_cache.kept():
    assert jax.config.jax_persistent_cache_enable_xla_caches == "none"


def test_the_folder_of_jax_itself_is_used_and_kept_sound(programs, events, capfd, monkeypatch, tmp_path):
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
  jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
  xla_caches = jax.config.jax_persistent_cache_enable_xla_caches
  with compilation_cache.kept():
    first = compute()
    assert jax.config.jax_persistent_cache_enable_xla_caches == xla_caches
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
  assert not programs.exists()
  kept(tmp_path / "own")[0].write_bytes(b"")
  assert start() == start() == first
  assert events[-1] == "hits"
  assert capfd.readouterr() == ("", "")


def test_it_can_be_turned_off(programs, events):
  jax.config.update("jax_enable_compilation_cache", False)
  try:
    start()
  finally:
    jax.config.update("jax_enable_compilation_cache", True)
  assert events == []
  assert not programs.exists()


@pytest.mark.parametrize("base", ["", "relative"])
def test_without_a_cache_home_it_is_in_the_users_home(monkeypatch, tmp_path, base):
  monkeypatch.setenv("XDG_CACHE_HOME", base)
  monkeypatch.setenv("HOME", str(tmp_path))
  assert compilation_cache.default_folder() == tmp_path / ".cache" / "convattn" / "jax"


def test_without_a_home_nothing_is_kept(programs, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", "")
  monkeypatch.setattr(os.path, "expanduser", lambda path: path)
  assert compilation_cache.default_folder() is None
  with compilation_cache.kept():
    assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_cannot_be_made_costs_one_line(programs, capfd, monkeypatch, tmp_path):
  (tmp_path / "file").touch()
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  with compilation_cache.kept():
    compute()
    jax.jit(lambda x: program(x) + 1)(X)
  out, err = capfd.readouterr()
  assert out == ""
  assert err.startswith("note: compiled programs are not kept: NotADirectoryError: ")
  assert err.count("\n") == 1


def test_a_full_disk_costs_one_line(programs, capfd):
  first = start()
  size = kept(programs)[0].stat().st_size
  shutil.rmtree(programs)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
  try:
    with compilation_cache.kept():
      assert compute() == first
      jax.jit(lambda x: jnp.sin(program(x)) + 1)(X)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  out, err = capfd.readouterr()
  assert out == ""
  assert err.startswith("note: compiled programs are not kept: OSError: ")
  assert err.count("\n") == 1
  assert kept(programs) == []  # no half of a file


def test_an_error_of_the_command_stays_alone(programs, capfd, monkeypatch, tmp_path):
  (tmp_path / "file").touch()
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

  @compilation_cache.kept()
  def fail():
    compute()
    raise ValueError("its own")

  with pytest.raises(ValueError, match="its own"):
    fail()
  assert capfd.readouterr().err == ""
  assert jax.config.jax_compilation_cache_dir is None


def test_other_warnings_are_shown():
  with pytest.warns(UserWarning, match="something else"), compilation_cache.kept():
    warnings.warn("something else", stacklevel=1)


def test_programs_for_more_devices_are_others(programs, events):
  devices = np.array(jax.devices()[:2])
  sharding = jax.sharding.NamedSharding(jax.sharding.Mesh(devices, ("batch",)), jax.sharding.PartitionSpec("batch"))

  def on_two():
    with compilation_cache.kept():
      return compute(jax.device_put(X, sharding))

  one, two = start(), on_two()
  assert len(kept(programs)) == 2
  events.clear()
  assert (start(), on_two()) == (one, two)
  assert set(events) == {"hits"}
