"""README.md of a workdir tells what the other files hold, and how to run it again."""

import re
import runpy
from pathlib import Path

import pytest

from convattn import training
from convattn.training import Augmentation, Checkpoint, Data, Experiment, Model, Optimizer, workdir as files
from convattn.training.readme import README, account_of, keep_readme, python_call, write_readme

ROOT = Path(__file__).resolve().parents[2]
RESULT = {"step": 9, "seconds": 1.25, "images_per_second": None, "state_sha256": "0" * 64}


def rows(text):
  """{what: told} of its list."""
  return dict(re.findall(r"^- ([^:]+): (.*)$", text, re.MULTILINE))


def call_of(text):
  """(experiment, workdir, what was passed) that its Python asks for."""
  calls = []
  names = {name: getattr(training, name) for name in training.__all__}
  imports, _, call = re.sub(r"\w+\(\.\.\.\)", "...", text).partition("\n\n")
  assert re.fullmatch(r"from convattn\.training import [\w, ]+", imports)
  imported = imports.rpartition(" import ")[2].split(", ")
  kept = {name: names[name] for name in imported}
  kept["run"] = lambda *arguments, **passed: calls.append((*arguments, passed))
  exec(call, kept)
  return calls[0]


def test_it_says_what_the_other_files_hold(toy, finished):
  folder, _ = finished
  text = (folder / README).read_text()
  found, result = rows(text), files.read_json(folder / files.RESULT)
  assert text.startswith(f"# {folder.name}\n")
  assert found["model"] == "Toy, 141 parameters, 3,798 multiply-adds per image"
  assert found["data"] == "ImageClassification, train 37, validation 11, test 13, 3 classes"
  assert found["training"] == "24 updates of 8 images, seed 0"
  assert {"`ema_decay=0.8`", "`augmentation.flip=true`"} <= {*found["settings that are not the defaults"].split(", ")}
  assert "changed on the way" not in found
  for name in ("test", "test_ema", "best/validation"):
    score = f"{name.replace('/', ' ')} accuracy {result[f'{name}/accuracy']:.2%}"
    assert len(re.findall(rf"(?:^|; ){score}[ ,]", found["result"])) == 1, score
  assert f"{result['seconds']:.1f} s, {result['images_per_second']:,.0f} images/s; " in found["time"]
  named = re.findall(r"`([\w.]+/?)`", found["files"])
  assert named and all((folder / name).exists() for name in named)
  assert {path.name for path in folder.glob("*.json*")} <= {*named}
  experiment, workdir, passed = call_of(re.search("```python\n(.*)\n```", text, re.DOTALL)[1])
  assert (experiment, workdir, set(passed)) == (toy.EXPERIMENT, str(folder), {"model", "task"})


FILES = [runpy.run_path(str(path)) for path in sorted((ROOT / "configs").glob("[a-z]*.py"))]
SHIPPED = [file["get_config"]() for file in FILES if "get_config" in file]  # the others are studies


@pytest.mark.parametrize(
  "experiment",
  [
    *SHIPPED,
    Experiment(),
    Experiment(data=Data("folder", dir='it\'s "there"\\'), model=Model("coatnet_0", stochastic_depth=0.25)),
    Experiment(
      seed=3,
      optimizer=Optimizer(epsilon=1e-7, clip_norm=0.0),
      checkpoint=Checkpoint(5),
      augmentation=Augmentation(flip=True),
    ),
  ],
)
def test_pythons_call_is_of_the_same_experiment(experiment):
  assert call_of(python_call(experiment, "a/b")) == (experiment, "a/b", {})


def account(command="", metadata=None):
  return account_of(Experiment(), "w", metadata or {}, "1 × cpu", command, model=None, task=None, variables=None)


def test_a_command_is_told_as_it_was_typed(tmp_path):
  command = "python train.py '--config.data.dir=a b'"
  text = account(command).text(tmp_path, (7, None), RESULT, ())
  assert f"```bash\n{command}\n```" in text and "python\n" not in text
  found = rows(text)
  assert (found["model"], found["data"]) == ("coatnet_mini_8, 7 parameters", "digits")
  assert found["settings that are not the defaults"] == "none"
  assert found["result"] == "nothing was scored"
  odd = {"num_examples": {"train": "many", "test": 1200}, "class_names": ["a"]}
  assert rows(account(metadata=odd).text(tmp_path, (7, None), RESULT, ()))["data"] == "digits, test 1,200, 1 class"
  assert "```python\nfrom convattn" in account().text(tmp_path, (7, None), RESULT, ())


def test_what_a_command_draws_is_named_where_it_is_drawn(tmp_path):
  def told(command, **settings):
    made = account_of(Experiment(**settings), "w", {}, "1 × cpu", command, model=None, task=None, variables=None)
    return rows(made.text(tmp_path, (7, None), RESULT, iter(["confusion", "mistakes"])))["files"]

  drawn = "`curves.png`, `confusion.png`, `mistakes.png` (figures)"
  assert told("convattn train").endswith(f"{drawn}, `explore.html` (what the model looks at; open it in a browser)")
  assert told("convattn train", explore=0).endswith(drawn)
  assert ".png" not in told("") and "explore.html" not in told("")
  assert all("`confusion.json`, `mistakes.json`" in told(command) for command in ("", "convattn train"))


def test_a_command_that_is_no_text_fails_no_run(tmp_path):
  write_readme(tmp_path, account("convattn train --workdir=caf\udce9"), (7, None), RESULT, ())
  assert "convattn train --workdir=caf\\udce9\n" in (tmp_path / README).read_text()


def test_one_that_no_run_wrote_is_left_alone(tmp_path):
  given = account(), (7, 9), RESULT, ()
  write_readme(tmp_path, *given)
  first = (tmp_path / README).read_text()
  (tmp_path / README).write_text(first.replace("9 updates", "8 updates"))
  write_readme(tmp_path, *given)
  assert (tmp_path / README).read_text() == first
  keep_readme(tmp_path, tmp_path / "kept")
  assert (tmp_path / "kept" / README).read_text() == first and not (tmp_path / README).exists()
  (tmp_path / README).write_text("my notes")
  write_readme(tmp_path, *given)
  keep_readme(tmp_path, tmp_path / "kept")
  assert (tmp_path / README).read_text() == "my notes"
  assert (tmp_path / "kept" / README).read_text() == first
