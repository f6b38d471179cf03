"""benchmarks.profile and benchmarks.instructions: structure and sums, not speed."""

import json
import types

import pytest

from benchmarks import profile
from benchmarks.instructions import KINDS, Place, Program, place

# jaxlib's events are a type that Python 3.12 deprecates, made where the first one is read; an error there ends Python.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type event_stats has no __module__:DeprecationWarning")

STAGES = ("stem", "stage_1", "stage_2", "stage_3", "stage_4", "classifier")
TEXT = """HloModule jit_step, is_scheduled=true

%inside (a: f32[2,3], b: f32[3,4]) -> f32[2,4] {
  %a = f32[2,3]{1,0} parameter(0)
  %b = f32[3,4]{1,0} parameter(1)
  %dot.1 = f32[2,4]{1,0} dot(%a, %b), metadata={op_name="jit(step)/jvp(CoAtNet)/classifier/logits/dot_general"}
  ROOT %negate.1 = f32[2,4]{1,0} negate(%dot.1), metadata={op_name="jit(step)/jvp(CoAtNet)/classifier/neg"}
}

ENTRY %main (x: f32[2,3], y: f32[3,4]) -> (f32[2,4], f32[]) {
  %x = f32[2,3]{1,0} parameter(0), metadata={op_name="x"}
  %y = f32[3,4]{1,0} parameter(1), metadata={op_name="y"}
  %fusion.1 = f32[2,4]{1,0} fusion(%x, %y), kind=kCustom, calls=%inside
  %copy.1 = f32[2,4]{0,1} copy(%fusion.1)
  %sum.1 = f32[] reduce(%copy.1, %zero), dimensions={0,1}, to_apply=%add, metadata={op_name="jit(step)/reduce_sum"}
  %while.1 = (s32[], /*index=1*/f32[2,4]{1,0}) while(%t), condition=%c, body=%b, metadata={op_name="jit(step)/while"}
  %gemm.1 = (f32[2,4]{1,0}, s8[8]{0}) custom-call(%x, %y), custom_call_target="__cublas$gemm"
  %conv.1 = f32[2,4]{1,0} custom-call(%x, %y), custom_call_target="__cudnn$convForward"
  %own.1 = f32[2,4]{1,0} custom-call(%x, %y), custom_call_target="something_else"
  ROOT %tuple.1 = (f32[2,4]{1,0}, f32[]) tuple(%copy.1, %sum.1)
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="module")
def trained(folder):
  return profile.main(
    ["--model=test_coatnet", "--batch=2", "--size=64", "--task=train", f"--output={folder / 'train'}"]
  )


@pytest.mark.parametrize(
  "op_name, expected",
  [
    (
      "jit(train_step)/transpose(jvp(CoAtNet))/CoAtNet.features/stage_1/block_0/expand/dot_general",
      Place("stage_1", "backward", "block_0/expand", "dot_general"),
    ),
    (
      "jit(train_step)/jvp(CoAtNet)/CoAtNet.features/stage_2/block_1/depthwise/cond/branch_0_fun/jit(_pad)/pad",
      Place("stage_2", "forward", "block_1/depthwise", "pad"),
    ),
    (
      "jit(f)/transpose(jvp(CoAtNet))/f/stage_3/jvp(CoAtNet)/f/stage_3/b.apply/block_0/attention/a->c/dot_general",
      Place("stage_3", "backward", "block_0/attention", "dot_general"),
    ),
    ("jit(<lambda>)/CoAtNet/CoAtNet.features/stem/mul", Place("stem", "forward", "", "mul")),
    ("jit(f)/transpose(jvp(CoAtNet))/classifier/norm/mul", Place("classifier", "backward", "norm", "mul")),
    ("jit(train_step)/transpose(jvp(jit(_take)))/scatter-add", Place("loss", "backward", "", "scatter-add")),
    ("jit(train_step)/jvp()/reduce_max", Place("loss", "forward", "", "reduce_max")),
    ("jit(train_step)/sqrt", Place("optimizer, rest", "rest", "", "sqrt")),
    ("", Place("optimizer, rest", "rest", "", "")),
  ],
)
def test_names_say_where_an_operation_comes_from(op_name, expected):
  assert place(op_name) == expected


def test_a_fusion_is_what_it_holds_and_a_copy_belongs_to_what_it_copies():
  program = Program(TEXT)
  assert program.module == "jit_step"
  expected = {
    "fusion.1": "matmul",
    "copy.1": "data movement",
    "sum.1": "reduction",
    "while.1": "loop",
    "gemm.1": "matmul",
    "conv.1": "convolution",
    "own.1": "other",
    "unknown": "other",
  }
  assert {name: program.kind(name) for name in expected} == expected
  assert set(expected.values()) <= set(KINDS)
  assert program.place("fusion.1") == program.place("copy.1") == Place("classifier", "forward", "", "neg")
  assert program.place("sum.1").stage == "optimizer, rest"
  assert program.instructions["while.1"].shape == "(s32[], f32[2,4])"


def test_an_instant_counts_once():
  made_up = [
    profile.Event("loop", 0, 100, "thread 1"),
    profile.Event("body", 10, 30, "thread 1"),  # inside the loop
    profile.Event("body", 40, 60, "thread 1"),
    profile.Event("other", 50, 70, "thread 2"),  # beside it: 10 with the body, 10 with the loop
    profile.Event("last", 200, 210, "thread 2"),
    profile.Event("empty", 205, 205, "thread 2"),
  ]
  expected = {"loop": 55, "body": 35, "other": 10, "last": 10, "empty": 0}
  assert profile.times(made_up) == pytest.approx(expected)
  assert sum(expected.values()) == 110


def test_where_a_device_has_a_plane_its_operations_alone_are_read():
  def event(name, **stats):
    return types.SimpleNamespace(start_ns=0.0, duration_ns=1.0, stats=[("hlo_op", name), *stats.items()])

  def plane(name, **lines):
    lines = [types.SimpleNamespace(name=line, events=found) for line, found in lines.items()]
    return types.SimpleNamespace(name=name, lines=lines)

  host = plane("/host:CPU", thread=[event("a", hlo_module="ours"), event("b", hlo_module="other")])
  device = plane("/device:GPU:0", stream=[event("c", hlo_module="ours"), event("d")])

  def names(*planes):
    return [found.name for found in profile.events(types.SimpleNamespace(planes=planes), "ours")]

  assert names(host) == ["a"]
  assert names(host, device) == ["c", "d"]


def test_the_parts_of_a_step_add_up(trained):
  rows = trained["operations"]
  for sums in (rows, trained["stages"], trained["kinds"]):
    assert sum(row["share"] for row in sums) == pytest.approx(1)
    assert sum(row["ms"] for row in sums) == pytest.approx(trained["operations_ms"])
  for row in trained["stages"]:
    assert sum(row["kinds"].values()) == pytest.approx(row["ms"])
  assert 0 < trained["operations_ms"] <= trained["profiled_step_ms"]
  assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)


def test_every_operation_is_known_and_every_stage_is_seen(trained):
  rows = trained["operations"]
  assert all(row["shape"] and row["kind"] in KINDS and row["runs"] > 0 for row in rows)
  assert not [row for row in rows if row["kind"] == "other"]
  seen = [(row["stage"], row["direction"]) for row in trained["stages"]]
  expected = [(stage, direction) for stage in STAGES for direction in ("forward", "backward")]
  assert [pair for pair in seen if pair[0] in STAGES] == expected
  assert seen[-1] == ("optimizer, rest", "rest")
  products = {(row["stage"], row["layer"]) for row in rows if row["kind"] == "matmul"}
  assert ("stage_1", "block_0/expand") in products
  assert any(row["runs"] > 1 for row in rows)  # the loops of the convolutions' gradients


def test_files_hold_what_is_printed(trained, folder):
  written = json.loads((folder / "train.json").read_text())
  assert written == json.loads(json.dumps(trained))
  assert (folder / "train.png").stat().st_size > 5000
  shown = profile.summary(trained, top=3).splitlines()
  assert len(shown) == 3 + 1 + len({row["stage"] for row in trained["stages"]}) + 1 + len(trained["kinds"]) + 2 + 3
  assert shown[-3].endswith(trained["operations"][0]["name"])


@pytest.mark.slow
def test_inference_has_no_backward_pass(folder):
  output = f"--output={folder / 'infer'}"
  result = profile.main(["--model=test_coatnet", "--batch=2", "--size=64", "--task=infer", "--steps=1", output])
  assert {row["direction"] for row in result["stages"]} <= {"forward", "rest"}
  assert set(STAGES) <= {row["stage"] for row in result["stages"]}
