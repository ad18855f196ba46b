from __future__ import annotations

from pathlib import Path  # noqa: TC003  # pytest gives one

import pytest

from edgeq.errors import ConfigError, LimitRangeError, UnknownNameError
from edgeq.project import load_project
from edgeq.records import Preprocess

MINIMAL = """
[model]
name = "tiny"
factory = "model.py:load"
inputs = [{ shape = [1, 3, 8, 8] }]
[data]
calibration = "data.py:calibration"
evaluation = "data.py:evaluation"
"""


def _written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "edgeq.toml").write_text(text)
    return tmp_path


def test_a_minimal_project_gets_the_defaults(tmp_path: Path) -> None:
    project = load_project(_written(tmp_path, MINIMAL))
    assert project.root == str(tmp_path)
    assert project.build.recipes == ("fp32", "int8-static")
    assert project.build.formats == ("pte", "onnx")
    assert project.model.inputs[0].dtype == "float32"


def test_the_file_itself_names_a_project_too(tmp_path: Path) -> None:
    assert load_project(_written(tmp_path, MINIMAL) / "edgeq.toml").model.name == "tiny"


def test_a_folder_without_the_file_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a project"):
        load_project(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("factory", "factori", "did you mean 'factory'"),
        ("[1, 3, 8, 8]", "[4, 3, 8, 8]", "shape = [1, 3, 8, 8]"),
        ("[1, 3, 8, 8]", "[1, 0, 8]", "dimension below 1"),
        ('"tiny"', '"../tiny"', "cannot be part of a file's name"),
        ("[{ shape = [1, 3, 8, 8] }]", "[]", "model.inputs is empty"),
        ("[data]", 'root = "/"\n[data]', "unknown key 'model.root'"),
        ("[data]", '[build]\nrecipes = ["int8-statik"]\n[data]', "did you mean 'int8-static'"),
        ("[data]", '[recipes.fp32]\nbase = "int8-static"\n[data]', "cannot be the name of a recipe of your own"),
        ("[data]", '[recipes."a/b"]\nbase = "int8-static"\n[data]', "letters, digits, dots and dashes"),
        ("[data]", '[recipes.mine]\nbase = "int8-statik"\n[data]', "[recipes.mine]: unknown recipe 'int8-statik'"),
        ("[data]", '[recipes.mine]\nbase = "auto"\n[data]', "'auto' is a search"),
        ("[data]", '[recipes.mine]\nbase = "int8-static"\nkeep = []\n[data]', "keep"),
        ("[data]", '[build]\nformats = ["tflite"]\n[data]', "formats"),
    ],
)
def test_what_is_wrong_is_named_with_the_way_to_mend_it(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_project(_written(tmp_path, MINIMAL.replace(old, new, 1)))
    assert words in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        *(("max_drop_pp", value) for value in ("nan", "inf", "-inf", "-1.0", "-1", "100.5")),
        *((f"min_{what}_mac_share", value) for what in ("int8", "delegated") for value in ("nan", "inf", "-0.1", "95")),
    ],
)
def test_a_limit_that_nothing_can_be_held_to_is_refused_with_its_range(tmp_path: Path, limit: str, value: str) -> None:
    with pytest.raises(LimitRangeError, match=rf"\[limits\]: {limit} is .*, not a number from 0 to 10?0?$"):
        load_project(_written(tmp_path, f"{MINIMAL}\n[limits]\n{limit} = {value}\n"))


def test_a_limit_of_no_partition_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[limits\]: max_partitions is 0$"):
        load_project(_written(tmp_path, f"{MINIMAL}\n[limits]\nmax_partitions = 0\n"))


def test_limits_at_the_ends_of_their_ranges_are_taken(tmp_path: Path) -> None:
    text = "[limits]\nmax_drop_pp = 0\nmin_int8_mac_share = 1\nmin_delegated_mac_share = 0.0\n"
    assert load_project(_written(tmp_path, f"{MINIMAL}\n{text}")).limits.min_int8_mac_share == 1


PREPROCESS = """
[preprocess]
layout = "NHWC"
mean = [127.0]
std = [128.0]
"""


def test_preprocessing_is_the_apps_unless_it_is_folded(tmp_path: Path) -> None:
    project = load_project(_written(tmp_path, MINIMAL + PREPROCESS))
    assert project.pixels is None
    assert project.left_to_the_app == Preprocess(layout="NHWC", mean=(127.0,), std=(128.0,))


def test_folded_preprocessing_leaves_the_app_the_bytes_alone(tmp_path: Path) -> None:
    project = load_project(_written(tmp_path, f"{MINIMAL}{PREPROCESS}folded = true\n"))
    assert project.pixels is not None
    assert project.pixels.shape == (1, 8, 8, 3)
    assert (project.pixels.mean, project.pixels.std) == ((127.0,) * 3, (128.0,) * 3)
    assert project.left_to_the_app == Preprocess(layout="NHWC", mean=(0.0,), std=(1.0,), folded=True)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("mean = [127.0]", "mean = [127.0, 3.0]", "mean has 2 numbers for 3 channels"),
        ("std = [128.0]", "std = []", "std has 0 numbers for 3 channels"),
        ("std = [128.0]", "std = [0.0]", "a std above 0"),
        ("mean = [127.0]", "mean = [nan]", "cannot be computed with"),
        ("[1, 3, 8, 8]", "[1, 8, 8, 3]", "float32 [1, 3, height, width]"),
        ("[1, 3, 8, 8]", "[1, 8]", "this takes float32 [1, 8]"),
        ("[1, 3, 8, 8] }", '[1, 3, 8, 8], dtype = "int32" }', "this takes int32"),
        ("[1, 3, 8, 8] }", "[1, 3, 8, 8] }, { shape = [1, 4] }", "models of one image"),
        ("folded", "foldet", "did you mean 'folded'"),
    ],
)
def test_preprocessing_that_cannot_be_folded_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = f"{MINIMAL}{PREPROCESS}folded = true\n"
    with pytest.raises(ConfigError) as caught:
        load_project(_written(tmp_path, text.replace(old, new, 1)))
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_a_project_has_recipes_of_its_own(tmp_path: Path) -> None:
    text = """
[build]
recipes = ["careful+mse"]
[recipes.careful]
base = "int8-static+equalize"
keep_float = ["head", "features.0.*"]
"""
    recipe = load_project(_written(tmp_path, MINIMAL + text)).own_recipes()["careful"]
    assert recipe.name == "careful"
    assert recipe.equalize
    assert recipe.keep_float == ("head", "features.0.*")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_p50_ms = 0", r"\[limits\]: max_p50_ms is 0$"),
        ("max_size_bytes = -1", r"\[limits\]: max_size_bytes is -1$"),
        ("max_instructions = nan", r"\[limits\]: max_instructions is nan$"),
        ("min_accuracy = 91.5", r"\[limits\]: min_accuracy is 91.5, not a number from 0 to 1$"),
        ("max_p99_ms = { int8-static = inf }", r"\[limits\]: max_p99_ms is inf$"),
        ("max_p99_ms = true", r"limits\.max_p99_ms: expected `float"),
    ],
)
def test_a_limit_that_nothing_can_be_held_to_is_an_error(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_project(_written(tmp_path, f"{MINIMAL}\n[limits]\n{line}\n"))


def test_a_limit_of_a_misspelt_recipe_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    text = f"{MINIMAL}\n[limits]\nmax_size_bytes = {{ int8-statik = 1000 }}\n"
    with pytest.raises(UnknownNameError, match="max_size_bytes: unknown recipe or artifact 'int8-statik'") as refused:
        load_project(_written(tmp_path, text))
    assert refused.value.hint == "did you mean 'int8-static'?"


def test_a_tolerance_is_a_number_from_0_to_100_and_has_a_default(tmp_path: Path) -> None:
    project = load_project(_written(tmp_path, f"{MINIMAL}\n[check]\nsize_percent = 3\n"))
    assert (project.check.size_percent, project.check.instructions_percent) == (3.0, 0.5)
    with pytest.raises(ConfigError, match=r"\[check\]: size_percent is -1, not a number from 0 to 100"):
        load_project(_written(tmp_path, f"{MINIMAL}\n[check]\nsize_percent = -1\n"))
    with pytest.raises(ConfigError, match=r"unknown key 'check\.size_per_cent'"):
        load_project(_written(tmp_path, f"{MINIMAL}\n[check]\nsize_per_cent = 1\n"))


def _labelled(labels: str) -> str:
    return MINIMAL.replace("[data]", f"labels = {labels}\n[data]")


def test_labels_are_a_list_or_a_file_with_one_a_line(tmp_path: Path) -> None:
    assert load_project(_written(tmp_path, MINIMAL)).model.labels == ()
    assert load_project(_written(tmp_path, _labelled('["cat", "dog, small"]'))).model.labels == ("cat", "dog, small")
    (tmp_path / "names.txt").write_text("cat\nKätzchen\ncat\n")  # two classes may be called alike
    assert load_project(_written(tmp_path, _labelled('"names.txt"'))).model.labels == ("cat", "Kätzchen", "cat")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ('"no.txt"', "no.txt cannot be read"),
        ('"empty.txt"', "it is empty"),
        ('"gap.txt"', "name 2 is ''"),
        ('"latin.txt"', "latin.txt cannot be read"),
        ('["cat", " "]', "name 2 is ' '"),
        ('["cat\\nal"]', "which cannot be shown"),
        ("[1]", "labels"),
    ],
)
def test_labels_that_cannot_be_shown_are_named(tmp_path: Path, labels: str, words: str) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "gap.txt").write_text("cat\n\ndog\n")
    (tmp_path / "latin.txt").write_bytes(b"K\xe4tzchen\n")
    with pytest.raises(ConfigError) as caught:
        load_project(_written(tmp_path, _labelled(labels)))
    assert words in caught.value.message
