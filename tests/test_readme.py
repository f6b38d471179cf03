"""The front page: what it claims is what stands elsewhere. Its snippets, commands and links are test_docs.py's."""

import pathlib
import re

import numpy as np
import pytest
import scipy.stats
import yaml

import convattn

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
REQUIREMENTS = (ROOT / "requirements.txt").read_text()


def test_it_is_short_and_in_order():
  assert len(README.splitlines()) <= 180
  assert re.findall(r"^## (.*)$", README, re.MULTILINE) == [
    "Install", "Trained weights", "Own pictures", "One layer, one law", "Results", "When not to use this", "Models",
    "What is where", "Citing, and licences",
  ]  # fmt: skip
  assert (
    README.index("Apache-2.0") < README.index("<img ") < README.index("| not checked |") < README.index("## Install")
  )


def test_it_names_the_versions_there_are():
  assert f"version {convattn.__version__}," in README
  old, new = (
    re.search(rf'^jax==(\S+) ; python_version {than} "3.12"', REQUIREMENTS, re.MULTILINE)[1] for than in ("<", ">=")
  )
  assert f"(jax {old}) and newer (jax {new})" in README


def numbers(cell: str) -> list[float]:
  return [float(number) for number in re.findall(r"[+-]?\d+\.\d+", cell)]


def interval(values: list[float]) -> tuple[float, float]:
  """Student's t interval of the mean, 95 %."""
  half = scipy.stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
  return np.mean(values) - half, np.mean(values) + half


RESULTS = re.findall(r"^\| (.*) \| ([\d.,+ ]+) \| (\S+)(?: %)? \| (.* to .*) \|$", README, re.MULTILINE)


@pytest.mark.parametrize("what, seeds, mean, bounds", RESULTS)
def test_the_intervals_are_those_of_the_seeds(what, seeds, mean, bounds):
  images = 180 if "fine-tuning" in what else 360
  values = [100 * round(value / 100 * images) / images for value in numbers(seeds)]  # shares of so many images, exactly
  assert len(values) == 5
  assert float(mean) == pytest.approx(np.mean(values), abs=0.0051), what
  assert numbers(bounds) == pytest.approx(interval(values), abs=0.0051), what


def test_the_seeds_are_those_of_the_pages():
  runs, finetuning = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("runs", "fine-tuning"))
  columns = [re.findall(rf"^\| \d (?:\|[^|]*){{{skipped}}}\| ([^|]*)", text, re.MULTILINE)
             for text, skipped in ((runs, 0), (runs, 1), (finetuning, 2))]  # fmt: skip
  assert [numbers(seeds) for _, seeds, _, _ in RESULTS] == [numbers(" ".join(column)) for column in columns]
  trained, drawn, gains = (
    numbers(" ".join(re.findall(rf"^\| \d (?:\|[^|]*){{{skipped}}}\| ([^|]*)", finetuning, re.MULTILINE)))
    for skipped in range(3)
  )
  assert np.subtract(trained, drawn) == pytest.approx(gains, abs=0.0101)


def test_the_interval_of_the_images_is_wilsons():
  right, images, low, high = re.search(
    r"with (\d+) of (\d+) right,\s*Wilson's interval is ([\d.]+) to ([\d.]+) %", README
  ).groups()
  bounds = scipy.stats.binomtest(int(right), int(images)).proportion_ci(method="wilson")
  assert (f"{bounds.low:.1%}", f"{bounds.high:.1%}") == (f"{low}%", f"{high}%")


def test_the_speeds_are_those_of_the_page():
  page = (ROOT / "docs" / "speed.md").read_text()
  for kind, text in (("inference", r"([\d.]+) times as fast as timm's in inference \(([\d.]+) to ([\d.]+)"),
                     ("training", r"([\d.]+)\s*times in training \(([\d.]+) to ([\d.]+)\)")):  # fmt: skip
    ratio, low, high = re.search(text, README).groups()
    (measured,) = re.findall(rf"^\| {kind}, images/s \|.*\| (.*) \|$", page, re.MULTILINE)
    assert measured == f"**{ratio}** ({low} to {high})"


def test_every_family_has_its_row():
  from convattn.pretrained.tags import TAGS

  table = README[README.index("| family | names |") : README.index("Every name with its parameters")]
  names = set(convattn.list_models())
  named = set(re.findall(r"`(\w+)`", table))
  assert named <= names
  own = {name for name in names if re.match(r"coatnet_.*_(rw2?|cc)_", name)}
  assert f"`coatnet_0_rw_224` and {len(own) - 1} more" in table
  ranges = {f"coatnet_{number}{form}" for form, last in (("", 7), ("_224", 5)) for number in range(last + 1)}
  layouts = {name for name in names if name.startswith("layout_")}
  assert named | own | ranges | layouts == names
  trained = [tag.architecture in own for tag in TAGS if tag.trained]
  assert f"| {sum(trained)} sets, timm's |" in table
  assert f"| {len(trained) - sum(trained)} set, timm's |" in table


def test_the_citation_file_is_of_this_version_and_whole():
  cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
  assert {"cff-version", "message", "title", "authors"} <= set(cited)  # what the format's schema 1.2.0 demands
  assert (cited["cff-version"], cited["type"]) == ("1.2.0", "software")
  assert (cited["version"], cited["license"]) == (convattn.__version__, "Apache-2.0")
  assert cited["authors"] == [{"name": "The convattn authors"}]
  papers = {paper["url"].rpartition("/")[2]: paper for paper in cited["references"]}
  assert set(papers) == {"2106.04803", "1911.03584"}
  for paper in papers.values():
    assert {"type", "title", "authors", "year", "conference"} <= set(paper)
    assert all({"family-names", "given-names"} <= set(author) for author in paper["authors"])
    assert f"{paper['authors'][0]['family-names']} et al. {paper['year']}" in README
