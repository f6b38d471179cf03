"""A study that cannot be run as a whole is refused in one line, before anything is on the disk."""

import dataclasses

import pytest

from convattn.errors import UserError
from convattn.study import Setting, Tuning, check, run
from convattn.training.config import Data, Model


def refused(study, folder):
  """The line that refuses a study, of which nothing is left."""
  with pytest.raises(UserError) as raised:
    run(study, folder / "study")
  assert "\n" not in str(raised.value)
  assert not (folder / "study").exists()
  return str(raised.value)


def settings(*rows):
  return {"settings": rows, "baselines": [rows[0].name] if rows else []}


A, B = Setting("a"), Setting("b", {"model.name": "plain_wide"})


@pytest.mark.parametrize(
  "changes, said",
  [
    (settings(), "a study must have at least one setting, got none"),
    (settings(Setting("a/b")), "a setting's name is a folder's, up to 32 letters, digits, '_' and '-'"),
    (settings(Setting("..")), "got '..'"),
    (settings(Setting("a" * 33)), "got 'aaaa"),
    (settings(A, Setting("A")), "each setting needs a name of its own, but 'a' is there more than once"),
    (settings(Setting("a", paper="x" * 41)), "setting a: paper must be a line of up to 40 letters"),
    (settings(Setting("a", group="x\ny")), r"setting a: group must be a line of up to 40 letters, got 'x\ny'"),
    ({**settings(A, B), "baselines": ["c"]}, "a baseline must be a setting of the study, got 'c'; did you mean a or b"),
    ({**settings(A, B), "baselines": []}, "group '' must have one baseline, from which the others are told apart, got"),
    ({**settings(A, B), "baselines": ["a", "b"]}, "got a and b."),
    (settings(A, Setting("b", starts_from="c")), "setting b: starts_from must be a setting of the study, got 'c'"),
    (
      settings(Setting("a", starts_from="b"), Setting("b", starts_from="a")),
      "settings must not start from each other in a circle, got a from b from a.",
    ),
    ({"seeds": []}, "seeds must be one or more numbers, each once, got []."),
    ({"seeds": [1, 1]}, "got [1, 1]."),
    ({"seeds": [2**32]}, "setting narrow: seed must be at least 0 and below 2**32, got 4294967296."),
    ({"train_images": 0}, "train_images must be at least 1, got 0."),
    ({"seeded": ["seed", "data.subset_sed"]}, "seeded must name settings, got 'data.subset_sed'; did you mean data."),
    ({"seeded": ["data.subset_seed"]}, "seeded must hold 'seed'"),
    (settings(A, Setting("b", {"seed": 3})), "setting b changes seed, which the study's seeds decide; leave it out."),
    (
      settings(A, Setting("b", {"init_from": "x"}, starts_from="a")),
      "setting b changes init_from, which starts_from decides; leave it out.",
    ),
    ({"tuning": Tuning("seed", [1, 2])}, "tuning cannot choose seed, which the seeds decide"),
    ({"tuning": Tuning("seed", [1], seed=1)}, "the seed of tuning must be none of the study's seeds [0, 1], got 1."),
    ({"tuning": Tuning("seed", [])}, "the candidates of tuning must be one or more values, each once, got []."),
    ({"tuning": Tuning("seed", [1, 1.0])}, "each once, got [1, 1.0]."),
    ({"tuning": Tuning("seed", ["a/b"])}, "a candidate of tuning names a folder: a number or a word, got 'a/b'."),
    (
      {"tuning": Tuning("model.name", ["plain"])},
      "setting wide changes model.name, which tuning chooses; leave one out, or set tuned=False.",
    ),
    ({"tuning": Tuning("optimizer.peak_lr", [1.0])}, "there is no setting 'optimizer.peak_lr'; did you mean opt"),
    (
      {"tuning": Tuning("optimizer.peak_learning_rate", [0.1, -0.1])},
      "setting narrow: optimizer.peak_learning_rate must be above 0, got -0.1.",
    ),
    (settings(A, Setting("b", {"data.image": 1})), "setting b: there is no setting 'data.image'; did you mean data."),
    (settings(A, Setting("b", {"data": 1})), "setting b: data is a group of settings"),
    (settings(A, Setting("b", {"num_steps": "9"})), "setting b: num_steps must be a whole number, got '9'."),
    (settings(A, Setting("b", {"model.name": "plane"})), "setting b: there is no model 'plane'"),
    (settings(A, Setting("b", {"batch_size": 9})), "setting b: batch_size must be a multiple of the 4 devices, got 9"),
    (settings(A, Setting("b", {"data.name": "digit"})), "setting b: unknown data set 'digit'; did you mean 'digits'"),
    (settings(A, Setting("b", {"data.images_per_class": 5000})), "setting b: images_per_class must be at most"),
    (settings(A, Setting("b", {"optimizer.freeze": "stage_1"})), "setting b: "),
    (settings(A, Setting("b", {"init_from": "nowhere"})), "setting b: there is no folder 'nowhere'"),
    (
      settings(A, Setting("b", {"model.name": "plain_wide"}, starts_from="a")),
      "setting b: the weights of a, from which it starts, are of another model (width: 4 there, 7 now).",
    ),
    (
      settings(A, Setting("b", {"data.classes": "0-4"})),
      "setting b is tested on other images than a, the baseline of its group '' (data.classes: '0-4', there '')",
    ),
  ],
)
def test_what_cannot_be_run_is_said_before_the_first(toy_study, tmp_path, changes, said):
  assert said in refused(toy_study(**changes), tmp_path)


def test_a_model_that_cannot_be_made_is_refused(toy_study, tmp_path):
  row = Setting("b", {"model.name": "layout_cttt_28", "model.head_size": 32})
  line = refused(toy_study(**settings(A, row)), tmp_path)
  assert line == "setting b: head_size is 32, but must divide the width 48 of every Transformer stage."


def test_sizes_are_counted_and_nothing_is_written(toy_study, tmp_path):
  sizes = check(toy_study(), tmp_path / "study")
  assert [sizes[name].parameters for name in ("narrow", "wide", "begun")] == [246, 612, 246]
  assert not any(size.test_is_validation for size in sizes.values())
  assert sizes["wide"].multiply_adds > sizes["narrow"].multiply_adds > 0
  assert list(tmp_path.iterdir()) == []


def test_a_validation_part_that_is_tested_on_is_seen(toy_study, tmp_path, monkeypatch):
  from convattn.study import rehearsal

  load = rehearsal.load_dataset
  monkeypatch.setattr(
    rehearsal, "load_dataset", lambda *given: dataclasses.replace(found := load(*given), test=found.validation)
  )
  assert all(size.test_is_validation for size in check(toy_study(), tmp_path).values())


def test_a_start_may_have_other_classes_and_stand_behind(toy_study, tmp_path):
  rows = Setting("a", {"data.classes": "5-9"}, starts_from="b", group="x"), Setting("b", {"data.classes": "0-4"})
  assert list(check(toy_study(settings=rows, baselines=("a", "b")), tmp_path)) == ["a", "b"]


def test_where_a_run_or_a_file_is_no_study_begins(toy_study, tmp_path):
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.json").write_text("{}")
  (tmp_path / "file").touch()
  for name, said in (("run", "holds a run, not a study"), ("file", "is a file, but the workdir must be a folder")):
    with pytest.raises(UserError, match=said):
      run(toy_study(), tmp_path / name)
  assert sorted(path.name for path in tmp_path.rglob("*")) == ["config.json", "file", "run"]


def test_the_same_study_is_known_by_what_its_runs_are(toy_study, tmp_path):
  from convattn.study.record import check_folder, write_plan

  study = toy_study("tuned")
  write_plan(tmp_path, study)
  base = study.base
  for same in (
    study,
    dataclasses.replace(study, title="another", question="another", paper="another"),
    dataclasses.replace(study, seeds=(0, 1, 2)),
    dataclasses.replace(study, settings=[*study.settings, Setting("more", group="3 images of a class")]),
    study.with_base(dataclasses.replace(base, log_every=7)),  # which changes freely
  ):
    check_folder(tmp_path, same)
  for name, other in {
    "seeds": dataclasses.replace(study, seeds=(0,)),
    "seeds ": dataclasses.replace(study, seeds=(1, 0)),
    "settings.wide.": dataclasses.replace(study, settings=study.settings[:1] + study.settings[2:]),
    "settings.narrow.experiment.num_steps": study.with_base(dataclasses.replace(base, num_steps=13)),
    "settings.narrow.experiment.data.images_per_class": study.with_base(
      dataclasses.replace(base, data=Data(images_per_class=5))
    ),
    "settings.narrow.tuned": dataclasses.replace(study, tuning=None),
    "tuning.seed": dataclasses.replace(study, tuning=dataclasses.replace(study.tuning, seed=7)),
    "train_images": dataclasses.replace(study, train_images=31),
    "settings.narrow.baseline": dataclasses.replace(study, baselines=("wide", "drawn")),
    "settings.begun.starts_from": dataclasses.replace(
      study, settings=[dataclasses.replace(each, starts_from="") for each in study.settings]
    ),
    "seeded": dataclasses.replace(study, seeded=("seed", "data.subset_seed")),
    "settings.narrow.experiment.model.width": study.with_base(dataclasses.replace(base, model=Model("plain", width=5))),
  }.items():
    with pytest.raises(UserError, match=r"holds another study \(.*Give this one another --workdir, or del") as raised:
      check_folder(tmp_path, other)
    assert name.strip() in str(raised.value) and "\n" not in str(raised.value)
  (tmp_path / "plan.json").write_text('{"settings": 3}')
  with pytest.raises(UserError, match="is damaged"):
    check_folder(tmp_path, study)


@pytest.mark.parametrize(
  "make, said",
  [
    (lambda study: Setting("a", paper=84.1), "Setting's paper must be a text, got 84.1."),
    (lambda study: Setting("a", ["seed"]), "Setting's changes must be a dict of names and values, got ['seed']."),
    (lambda study: Setting("a", tuned=1), "Setting's tuned must be True or False, got 1."),
    (lambda study: Tuning("seed", 0.1), "Tuning's candidates must be a list, got 0.1."),
    (lambda study: study(seeds=3), "Study's seeds must be a list, each a whole number, got 3."),
    (lambda study: study(seeds=[True]), "Study's seeds must be a list, each a whole number, got [True]."),
    (lambda study: study(baselines="a"), "Study's baselines must be a list, each a text, got 'a'."),
    (lambda study: study(settings=[{}]), "Study's settings must be a list, each Setting(...), got [{}]."),
    (lambda study: study(base=3), "Study's base must be Experiment(...), got 3."),
    (lambda study: study(tuning=[3]), "Study's tuning must be Tuning(...) or None, got [3]."),
  ],
)
def test_what_is_of_another_kind_is_told_where_it_stands(toy_study, make, said):
  with pytest.raises(UserError) as raised:
    make(toy_study)
  assert str(raised.value) == said
  toy_study(seeds=range(2), baselines=("narrow", "drawn"))
