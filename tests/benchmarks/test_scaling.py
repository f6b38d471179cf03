"""docs/scaling.md says what the script computes, and its laws hold."""

from pathlib import Path

import jax
import pytest

from benchmarks import scaling
from benchmarks.scaling import Chip, Layout, collectives, layouts, memory_row, sizes, time_row
from benchmarks.scaling_text import collectives_section, memory_section, times_section

DOCUMENT = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
PLACES = [layout for chips in (8, 256, 1024) for layout in layouts(chips)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coatnet_4", "coatnet_7"])
def test_the_document_holds_the_bytes_and_times_that_the_script_computes(name):
  memory = memory_section([(name, at, memory_row(name, at)) for at in PLACES])
  times = times_section([(name, at, time_row(name, at, Chip())) for at in PLACES], {name: sizes(name)}, Chip())
  rows = [line for line in f"{memory}\n{times}".splitlines() if line.startswith(f"| {name}")]
  assert len(rows) == 2 * len(PLACES)
  assert not [row for row in rows if row not in DOCUMENT]
  assert f"{name}: {sizes(name).multiply_adds / 1e9:.1f} G" in DOCUMENT


@pytest.mark.slow
def test_the_document_holds_the_collectives_that_are_compiled_here():
  if f"(jax {jax.__version__})" not in DOCUMENT:
    pytest.skip("the document was written with another version of jax")
  assert collectives_section({fsdp: scaling.compiled_apart(fsdp) for fsdp in (1, 8)}) in DOCUMENT


@pytest.mark.slow
def test_a_divided_state_takes_an_eighth_and_activations_do_not_change():
  one, eighth = memory_row("coatnet_4", Layout(256, 1)), memory_row("coatnet_4", Layout(256, 8))
  for part in ("parameters", "moments", "average", "gradients"):
    assert 7.8 < one[part] / eighth[part] < 8
  assert one["activations"] == eighth["activations"]
  assert one["moments"] == 2 * one["parameters"] < one["average"] + one["parameters"]  # batch statistics


def test_sending_takes_what_rings_and_hosts_take():
  chip = Chip(near=100.0, far=10.0, host=4, latency=0.0)
  assert chip.gather(800.0, 1) == 0
  assert chip.gather(800.0, 4) == pytest.approx(3 / 4 * 8)
  assert chip.gather(800.0, 8) == pytest.approx(1 / 2 * 800 / 4 / 10 + 3 / 4 * 8)
  assert chip.all_reduce_far(800.0, 2) == pytest.approx(80)
  assert chip.all_reduce_far(800.0, 1) == 0


def test_time_is_work_over_chips():
  few, many = (time_row("coatnet_4", Layout(chips, 8), Chip()) for chips in (256, 1024))
  assert few["compute"] == pytest.approx(4 * many["compute"])
  assert few["overlapped"] == max(few["compute"], few["sending"])
  assert few["added"] == few["compute"] + few["sending"]


def test_collectives_are_counted_with_the_bytes_of_their_results():
  text = """
    %a = f32[4,3]{1,0} all-reduce(%x), channel_id=1
    %b = (f32[], bf16[8]{0}, /*index=2*/s32[2,2]{1,0}) all-reduce(%x, %y, %z), channel_id=2
    %c = u8[5]{0} all-gather-start(%x), dimensions={0}
    %d = f32[9]{0} add(%a, %all-reduce.1)
  """
  assert collectives(text) == {"all-gather": (1, 5), "all-reduce": (2, 48 + 4 + 16 + 16)}
