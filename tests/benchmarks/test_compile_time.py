"""benchmarks/compile_time.py on a tiny model."""

import json

import pytest

from benchmarks import compile_time

OPTIONS = {"model": "test_coatnet", "batch": 2, "size": 64, "task": "infer", "dtype": "float32"}


def side(seconds, from_cache):
  times = dict.fromkeys(compile_time.STAGES, seconds)
  return {"seconds": times, "from_cache": from_cache, "device": "cpu", "jax": "0"}


def test_the_table_has_every_stage_and_the_sum():
  result = {"options": OPTIONS, "cold": side(2.0, False), "warm": side(0.5, True)}
  lines = compile_time.table(result).splitlines()
  assert lines[0].startswith("test_coatnet, infer, batch 2, 64 px")
  assert [line[:22].rstrip() for line in lines[2:]] == [
    *("imports", "device", "lowering", "compiling / loading", "arguments", "first execution", "total")
  ]
  assert {line[22:] for line in lines[2:-1]} == {"    2.00    0.50"}
  assert lines[-1].split() == ["total", "12.00", "3.00"]


@pytest.mark.parametrize(("cold", "warm"), [(False, False), (True, True)])
def test_a_measurement_that_is_none_says_so(cold, warm):
  result = {"options": OPTIONS, "cold": side(1, cold), "warm": side(1, warm)}
  assert compile_time.table(result).splitlines()[-1].startswith("the warm process did not load")


@pytest.mark.slow
def test_the_second_process_loads(tmp_path, monkeypatch, capsys):
  elsewhere = tmp_path / "own"
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(elsewhere))
  monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
  output = tmp_path / "new" / "times.json"
  result = compile_time.main([f"--output={output}", *(f"--{name}={value}" for name, value in OPTIONS.items())])
  assert not elsewhere.exists()
  assert json.loads(output.read_text()) == result
  assert result["options"] == OPTIONS
  assert [result[name]["from_cache"] for name in ("cold", "warm")] == [False, True]
  for name in ("cold", "warm"):
    assert tuple(result[name]["seconds"]) == compile_time.STAGES
    assert all(seconds > 0 for seconds in result[name]["seconds"].values())
  shown = capsys.readouterr().out
  assert shown == f"{compile_time.table(result)}\nwritten: {output}\n"
  assert "did not load" not in shown


@pytest.mark.slow
def test_what_stops_the_process_is_shown():
  with pytest.raises(SystemExit, match="no_such_model"):
    compile_time.main(["--model=no_such_model"])
