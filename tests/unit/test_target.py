"""Targets: the shipped ones load, a file of one's own works by path, and mistakes are said with the nearest match."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeq.errors import ConfigError
from edgeq.target import known_targets, load_target

if TYPE_CHECKING:
    from pathlib import Path

SHIPPED = (
    *("generic-aarch64", "generic-armv7", "graviton2", "host", "jetson-orin-nano"),
    *("rpi-zero-2w", "rpi2", "rpi3", "rpi4", "rpi5"),
)
OWN_BOARD = """
description = "A board of my own"
triple = "aarch64-linux-gnu"
cpu = "cortex-a55"
features = ["fp", "asimd", "asimddp"]
cores = 4
ram_bytes = 2_147_483_648
sources = ["its data sheet, section 1"]
[runtimes.executorch]
activations = "int8"
[runtimes.onnxruntime]
activations = "int8"
[bench]
threads = 2
[emulation]
cpu = "cortex-a76"
"""


@pytest.fixture
def own_board(tmp_path: Path) -> Path:
    path = tmp_path / "my-board.toml"
    path.write_text(OWN_BOARD)
    return path


def refused(path: Path, old: str, new: str) -> ConfigError:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_target(str(path))
    assert str(path) in caught.value.message
    return caught.value


def test_the_shipped_targets_are_the_ones_the_readme_lists() -> None:
    assert tuple(known_targets()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_target_loads_and_says_where_its_facts_were_read(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.description
    assert target.sources
    assert all(target.sources)


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "host"])
def test_every_arm_target_is_emulated_by_a_named_core(name: str) -> None:
    emulation = load_target(name).emulation
    assert emulation is not None
    assert emulation.cpu in {"cortex-a7", "cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1"}
    assert emulation.machine == "virt"


def test_boards_without_crypto_extensions_do_not_claim_them() -> None:
    for name in ("rpi3", "rpi4", "rpi-zero-2w"):
        assert not {"aes", "pmull", "sha1", "sha2"} & set(load_target(name).features)


def test_the_dot_product_is_where_the_core_has_it() -> None:
    with_it = {name for name in SHIPPED if "asimddp" in load_target(name).features}
    assert with_it == {"graviton2", "rpi5", "jetson-orin-nano"}


def test_onnx_activations_are_signed_on_64_bit_arm_alone() -> None:
    targets = [load_target(name) for name in SHIPPED]
    signed = {target.name for target in targets if target.runtimes.onnxruntime.activations == "int8"}
    assert signed == {target.name for target in targets if target.triple == "aarch64-linux-gnu"}


def test_the_host_is_not_emulated() -> None:
    assert load_target("host").emulation is None


def test_a_file_of_ones_own_works_by_path_and_takes_the_documented_defaults(own_board: Path) -> None:
    target = load_target(str(own_board))
    assert target.name == "my-board"
    assert (target.bench.threads, target.bench.warmup, target.bench.repeats, target.bench.max_celsius) == (
        2,
        10,
        200,
        80,
    )
    assert target.emulation is not None
    assert (target.emulation.machine, target.emulation.ram_mib) == ("virt", 1024)


def test_a_file_of_ones_own_may_name_itself(own_board: Path) -> None:
    own_board.write_text('name = "bench-7"\n' + OWN_BOARD)
    assert load_target(str(own_board)).name == "bench-7"


def test_a_file_without_emulation_says_that_there_is_none(own_board: Path) -> None:
    own_board.write_text(OWN_BOARD.partition("[emulation]")[0])
    assert load_target(str(own_board)).emulation is None


def test_an_unknown_name_is_refused_with_the_nearest_match() -> None:
    with pytest.raises(ConfigError) as caught:
        load_target("rpi-4")
    assert "unknown target 'rpi-4'" in caught.value.message
    assert caught.value.hint == "did you mean 'rpi4'?"


def test_a_name_like_no_other_is_refused_with_all_that_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        load_target("zzzz")
    assert all(name in caught.value.hint for name in SHIPPED)


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml does not exist"):
        load_target(str(tmp_path / "nowhere.toml"))


@pytest.mark.parametrize(
    ("old", "new", "key", "nearest"),
    [
        ("ram_bytes", "ram_byte", "ram_byte", "ram_bytes"),
        ("threads", "thread", "bench.thread", "threads"),
        ("[runtimes.onnxruntime]", "[runtimes.onnx_runtime]", "runtimes.onnx_runtime", "onnxruntime"),
        ('cpu = "cortex-a76"', 'cpus = "cortex-a76"', "emulation.cpus", "cpu"),
    ],
)
def test_a_wrong_key_is_refused_with_the_nearest_match(
    own_board: Path, old: str, new: str, key: str, nearest: str
) -> None:
    error = refused(own_board, old, new)
    assert f"unknown key {key!r}" in error.message
    assert error.hint == f"did you mean {nearest!r}?"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("cores = 4\n", "cores"),
        ('sources = ["its data sheet, section 1"]\n', "sources"),
        ("threads = 2\n", "threads"),
        ('[runtimes.executorch]\nactivations = "int8"\n', "executorch"),
    ],
)
def test_a_missing_field_is_refused_by_its_name(own_board: Path, line: str, field: str) -> None:
    assert field in refused(own_board, line, "").message


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("cores = 4", 'cores = "4"', "cores"),
        ("ram_bytes = 2_147_483_648", "ram_bytes = 2.5", "ram_bytes"),
        ('features = ["fp", "asimd", "asimddp"]', 'features = "fp"', "features"),
        ('triple = "aarch64-linux-gnu"', 'triple = "arm-linux-gnueabi"', "triple"),
        ('[runtimes.onnxruntime]\nactivations = "int8"', '[runtimes.onnxruntime]\nactivations = "int4"', "onnxruntime"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_field(own_board: Path, old: str, new: str, field: str) -> None:
    assert field in refused(own_board, old, new).message


def test_executorch_is_named_where_there_is_one_and_nowhere_else(own_board: Path) -> None:
    error = refused(own_board, 'triple = "aarch64-linux-gnu"', 'triple = "arm-linux-gnueabihf"')
    assert "no package registry has it for arm-linux-gnueabihf" in error.message
    text = own_board.read_text().replace('[runtimes.executorch]\nactivations = "int8"\n', "")
    own_board.write_text(text.replace('activations = "int8"', 'activations = "uint8"'))
    assert load_target(str(own_board)).formats == ("onnx",)
    own_board.write_text(text)
    with pytest.raises(ConfigError, match="'int8', which ONNX Runtime computes wrongly on arm-linux-gnueabihf"):
        load_target(str(own_board))


def test_a_file_that_is_not_toml_is_refused(own_board: Path) -> None:
    assert "not valid TOML" in refused(own_board, "cores = 4", "cores is 4").message
