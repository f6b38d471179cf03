import pytest

from convattn.models import list_models
from convattn.models.timm_variants import TIMM_VARIANTS
from convattn.pretrained import Preprocessing, class_names, preprocessing, synset_names
from convattn.pretrained.tags import TAGS, find_tags, nearest_trained

HALF = (0.5, 0.5, 0.5)


def test_every_architecture_of_timms_has_its_rows():
  architectures = [row.architecture for row in TAGS]
  assert set(architectures) == set(TIMM_VARIANTS) <= set(list_models())
  assert len(TAGS) == 27 == len({row.name for row in TAGS})
  for row in TAGS:
    untrained = [other for other in TAGS if other.architecture == row.architecture and not other.trained]
    assert row.trained or untrained == [row] == list(find_tags(row.architecture))


def test_heads_and_accuracies_fit_what_they_were_trained_on():
  for row in TAGS:
    assert (row.num_classes == 11821) == row.name.endswith(".sw_in12k")
    assert (row.accuracy is not None) == row.name.endswith("in1k")
    assert row.trained == row.name.partition(".")[2].startswith("sw_in")
  accuracies = {row.name: row.accuracy for row in TAGS if row.accuracy}
  assert len(accuracies) == 12 and min(accuracies.values()) == 81.70
  assert max(accuracies, key=accuracies.get) == "coatnet_rmlp_2_rw_384.sw_in12k_ft_in1k"
  assert accuracies["coatnet_0_rw_224.sw_in1k"] == 82.40


@pytest.mark.parametrize(
  "tag, expected",
  [
    ("coatnet_0_rw_224.sw_in1k", Preprocessing((224, 224), HALF, HALF, 0.95, "center", "bicubic")),
    ("coatnet_2_rw_224", Preprocessing((224, 224), HALF, HALF, 0.95, "center", "bicubic")),
    ("coatnext_nano_rw_224", Preprocessing((224, 224), HALF, HALF, 0.9, "center", "bicubic")),
    ("coatnet_rmlp_2_rw_384.sw_in12k_ft_in1k", Preprocessing((384, 384), HALF, HALF, 1.0, "squash", "bicubic")),
    ("test_coatnet", Preprocessing((160, 160), HALF, HALF, 0.95, "center", "bicubic")),
    (
      "coatnet_bn_0_rw_224.sw_in1k",
      Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.95, "center", "bicubic"),
    ),
  ],
)
def test_weights_have_their_preprocessing(tag, expected):
  assert preprocessing(tag) == expected


def test_only_one_was_scored_with_the_statistics_of_imagenet():
  assert [row.architecture for row in TAGS if row.preprocessing.mean != HALF] == ["coatnet_bn_0_rw_224"]
  for row in TAGS:
    size = row.architecture.rpartition("_")[2]
    assert row.preprocessing.image_size == ((int(size),) * 2 if size.isdigit() else (160, 160))


def test_classes_have_names_in_timms_order():
  names = class_names("coatnet_0_rw_224.sw_in1k")
  assert (len(names), len(set(names))) == (1000, 1000)
  some = {0: "tench", 1: "goldfish", 207: "golden retriever", 281: "tabby", 701: "parachute", 999: "toilet tissue"}
  assert {i: names[i] for i in some} == some
  assert {134: names[134], 517: names[517]} == {134: "crane (n02012849)", 517: "crane (n03126707)"}
  assert tuple(synset_names().values()) == names and list(synset_names()) == sorted(synset_names())
  assert synset_names()["n01440764"] == "tench"
  assert all(synset[0] == "n" and len(synset) == 9 and synset[1:].isdigit() for synset in synset_names())


def test_classes_of_imagenet_12k_have_numbers():
  names = class_names("coatnet_3_rw_224")
  assert (len(names), names[0], names[-1]) == (11821, "imagenet12k_0", "imagenet12k_11820")


@pytest.mark.parametrize("function", [preprocessing, class_names])
def test_an_unknown_tag_gives_the_nearest(function):
  with pytest.raises(ValueError, match=r"no CoAtNet 'coatnet_0_rw_224.sw_in1'; did you mean coatnet_0_rw_224.sw_in1k,"):
    function("coatnet_0_rw_224.sw_in1")
  with pytest.raises(ValueError, match="no CoAtNet 'coatnet_0'; did you mean"):  # the paper's is not timm's
    function("coatnet_0")


def test_a_bare_name_of_several_weights_is_refused_where_they_differ():
  with pytest.raises(
    ValueError, match="differ in num_classes; name coatnet_2_rw_224.sw_in12k_ft_in1k or coatnet_2_rw_"
  ):
    class_names("coatnet_2_rw_224")


def test_the_nearest_trained_tags_are_trained_and_near():
  for row in TAGS:
    near = nearest_trained(row.architecture)
    assert len(near) == 3 and all(find_tags(name)[0].trained for name in near)
    if row.trained:
      assert find_tags(near[0])[0].architecture == row.architecture
  first = {
    "coatnet_pico_rw_224": "coatnet_nano_rw_224.sw_in1k",
    "coatnet_nano_cc_224": "coatnet_nano_rw_224.sw_in1k",
    "coatnet_rmlp_0_rw_224": "coatnet_rmlp_1_rw_224.sw_in1k",
    "coatnet_rmlp_3_rw_224": "coatnet_rmlp_2_rw_224.sw_in12k_ft_in1k",
    "coatnet_0_224": "coatnet_0_rw_224.sw_in1k",
    "coatnet_5_224": "coatnet_3_rw_224.sw_in12k",
  }
  assert {architecture: nearest_trained(architecture)[0] for architecture in first} == first
