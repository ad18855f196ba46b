"""Advice from facts: which recipe, and what the three lines say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeq.stages.advice import Facts, advise

KINDS = {"convolutions": 0, "linear layers": 0, "recurrent layers": 0, "products": 0}

CNN = Facts(
    model="net",
    macs=1_000_000,
    kinds={**KINDS, "convolutions": 990_000, "linear layers": 10_000},
    static_share=1.0,
    chained_share=0.9,
    dynamic_share=0.4,
    calibration="data.py:calibration",
    train="",
    max_drop_pp=0.5,
    never_slower=False,
    recipes=("fp32", "int8-static"),
    target="rpi4",
    cpu="cortex-a72",
    triple="aarch64-linux-gnu",
    features=("fp", "asimd"),
    executorch_activations="int8",
    onnxruntime_activations="int8",
)
TRANSFORMER = replace(
    CNN,
    kinds={**KINDS, "convolutions": 50_000, "linear layers": 900_000, "products": 50_000},
    static_share=0.95,
    chained_share=0.2,
    dynamic_share=0.9,
)
LSTM = replace(
    CNN,
    kinds={**KINDS, "linear layers": 1_000, "recurrent layers": 999_000},
    static_share=0.001,
    dynamic_share=1.0,
)
DOT_PRODUCT = ("fp", "asimd", "asimddp")
MATRICES = replace(CNN, kinds={**KINDS, "linear layers": 1_000_000}, static_share=1.0, dynamic_share=1.0)
DEPTHWISE = replace(CNN, dynamic_share=0.0)
NOTHING = replace(CNN, macs=0, kinds=KINDS, static_share=0.0, dynamic_share=0.0)
VOLUMES = replace(CNN, static_share=0.0, dynamic_share=0.0)
HEARS_AND_REMEMBERS = replace(
    CNN,
    kinds={**KINDS, "convolutions": 600_000, "recurrent layers": 400_000},
    static_share=0.6,
    dynamic_share=0.95,
)


@pytest.mark.parametrize(
    ("facts", "calibrated", "uncalibrated"),
    [
        (CNN, "int8-static", "int8-dynamic"),
        (TRANSFORMER, "int8-dynamic", "int8-dynamic"),
        (replace(TRANSFORMER, features=DOT_PRODUCT), "int8-static", "int8-dynamic"),
        (replace(TRANSFORMER, dynamic_share=0.5), "int8-static", "int8-dynamic"),
        (MATRICES, "int8-static", "int8-dynamic"),
        (LSTM, "int8-dynamic", "int8-dynamic"),
        (HEARS_AND_REMEMBERS, "int8-dynamic", "int8-dynamic"),
        (DEPTHWISE, "int8-static", "fp32"),
        (VOLUMES, "fp32", "fp32"),
        (NOTHING, "fp32", "fp32"),
    ],
)
def test_the_recipe_follows_from_where_the_work_is_and_whether_there_is_calibration(
    facts: Facts, calibrated: str, uncalibrated: str
) -> None:
    assert advise(facts).recipe == calibrated
    assert advise(replace(facts, calibration="")).recipe == uncalibrated


@pytest.mark.parametrize("facts", [CNN, TRANSFORMER, MATRICES, LSTM, DEPTHWISE, VOLUMES, NOTHING])
@pytest.mark.parametrize("calibration", ["data.py:calibration", ""])
@pytest.mark.parametrize("triple", ["aarch64-linux-gnu", "x86_64-linux-gnu"])
def test_advice_is_three_lines_that_begin_with_the_recipe(facts: Facts, calibration: str, triple: str) -> None:
    advice = advise(replace(facts, calibration=calibration, triple=triple))
    assert len(advice.reasons) == 3
    assert not any("\n" in reason for reason in advice.reasons)
    assert advice.reasons[0].startswith(f"{advice.recipe}: ")


def test_the_first_line_says_where_the_work_is_and_leaves_out_what_there_is_not() -> None:
    first = advise(TRANSFORMER).reasons[0]
    assert "of net's 1.00 M multiply-accumulates" in first
    assert "5.0% in convolutions, 90.0% in linear layers, 5.0% in products" in first
    assert "recurrent" not in first


def test_a_model_without_layers_is_told_that_nothing_can_be_int8() -> None:
    assert "nothing can be int8" in advise(NOTHING).reasons[0]
    assert "none of them can be int8" in advise(VOLUMES).reasons[0]


def test_the_first_line_says_why_ranges_are_fixed_or_taken_at_run_time() -> None:
    assert "what passes between layers stays int8" in advise(CNN).reasons[0]
    assert "cost no more than fixed ones" in advise(TRANSFORMER).reasons[0]
    assert "save a pass over each input" in advise(replace(TRANSFORMER, features=DOT_PRODUCT)).reasons[0]
    assert "cost no more" not in advise(replace(TRANSFORMER, calibration="")).reasons[0]
    assert "each step reads the state of the one before" in advise(LSTM).reasons[0]


def test_the_second_line_says_what_calibration_would_bring() -> None:
    assert "without calibration" in advise(replace(DEPTHWISE, calibration="")).reasons[0]
    assert "with it int8-static would take 100.0%" in advise(replace(CNN, calibration="")).reasons[1]
    assert "none is needed" in advise(replace(LSTM, calibration="")).reasons[1]
    assert "is not read: int8-dynamic takes 100.0%, int8-static 0.1%" in advise(LSTM).reasons[1]


def test_the_second_line_says_what_a_search_could_do() -> None:
    assert "--max-drop 0.5` would try others, and without [data] train it ends" in advise(CNN).reasons[1]
    trained = advise(replace(CNN, train="train.py:train", max_drop_pp=None))
    assert "--max-drop PP` would try others, and int8-qat by train.py:train comes last" in trained.reasons[1]
    assert "`--recipe auto` needs calibration" in advise(replace(CNN, calibration="")).reasons[1]


@pytest.mark.parametrize("recipes", [("fp32", "int8-static"), ("auto",)])
def test_a_project_that_builds_the_recipe_or_searches_is_left_alone(recipes: tuple[str, ...]) -> None:
    assert "add `--recipe" not in advise(replace(CNN, recipes=recipes)).reasons[1]


def test_a_project_that_builds_something_else_is_told_the_option() -> None:
    advice = advise(replace(CNN, recipes=("fp32", "int8-dynamic")))
    assert advice.reasons[1].endswith("to be built: fp32, int8-dynamic, so add `--recipe int8-static`")


@pytest.mark.parametrize(
    ("triple", "features", "words"),
    [
        ("aarch64-linux-gnu", ("asimd", "asimddp"), "has the int8 dot product (asimddp)"),
        ("aarch64-linux-gnu", ("asimddp", "i8mm"), "has the int8 dot product (asimddp, i8mm)"),
        ("aarch64-linux-gnu", ("asimd",), "names no int8 dot product (asimddp, i8mm)"),
        ("x86_64-linux-gnu", ("sse2",), "names no int8 dot product (avx512_vnni, avx_vnni)"),
        ("x86_64-linux-gnu", ("avx_vnni",), "has the int8 dot product (avx_vnni)"),
        (
            "arm-linux-gnueabihf",
            ("neon", "asimddp"),
            "names no int8 dot product (32-bit Arm has none that kernels use)",
        ),
    ],
)
def test_the_third_line_says_what_the_core_has(triple: str, features: tuple[str, ...], words: str) -> None:
    assert words in advise(replace(CNN, triple=triple, features=features)).reasons[2]


def test_the_third_line_names_the_activations_of_each_runtime_where_they_are_quantized_beforehand() -> None:
    words = "activations are int8 in ExecuTorch and uint8 in ONNX Runtime"
    assert words in advise(replace(CNN, onnxruntime_activations="uint8")).reasons[2]
    assert "activations are" not in advise(replace(LSTM, onnxruntime_activations="uint8")).reasons[2]


def test_a_limit_that_is_set_already_is_not_asked_for() -> None:
    assert "[limits] never_slower = true checks it" in advise(CNN).reasons[2]
    assert "the project's never_slower checks it" in advise(replace(CNN, never_slower=True)).reasons[2]


def test_a_target_without_executorch_names_the_activations_of_the_other_runtime_alone() -> None:
    facts = replace(CNN, triple="arm-linux-gnueabihf", executorch_activations="", onnxruntime_activations="uint8")
    assert advise(facts).reasons[2].endswith("; activations are uint8 in ONNX Runtime")
