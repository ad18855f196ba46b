"""Targets: the shipped ones load, a file of one's own works by path, and mistakes are said with the nearest match."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgeq.errors import BareMetalError, ConfigError, UnknownNameError
from edgeq.target import RuntimeFacts, known_targets, load_target

if TYPE_CHECKING:
    from pathlib import Path

NPUS = ("ethos-u55-128", "ethos-u55-256", "ethos-u65-256", "ethos-u85-256")
BOARDS = (
    *("generic-aarch64", "generic-armv7", "graviton2", "host", "jetson-orin-nano"),
    *("rpi-zero-2w", "rpi2", "rpi3", "rpi4", "rpi5"),
)
SHIPPED = ("cortex-m55", *NPUS, *BOARDS)
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


@pytest.mark.parametrize("name", [name for name in BOARDS if name != "host"])
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
    targets = [load_target(name) for name in BOARDS]
    signed = {target.name for target in targets if target.runtimes.onnxruntime == RuntimeFacts(activations="int8")}
    assert signed == {target.name for target in targets if target.triple == "aarch64-linux-gnu"}


def test_the_host_is_not_emulated() -> None:
    assert load_target("host").emulation is None


def test_a_file_of_ones_own_works_by_path_and_takes_the_documented_defaults(own_board: Path) -> None:
    target = load_target(str(own_board))
    assert target.name == "my-board"
    bench = target.measuring
    assert (bench.threads, bench.warmup, bench.repeats, bench.max_celsius) == (2, 10, 200, 80)
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


OWN_NPU = """
description = "A microcontroller of my own"
triple = "arm-none-eabi"
cpu = "cortex-m55"
features = []
cores = 1
sources = ["its data sheet, section 1"]
[runtimes.executorch]
activations = "int8"
[npu]
accelerator = "ethos-u55-64"
system_config = "Ethos_U55_Deep_Embedded"
memory_mode = "Sram_Only"
"""


@pytest.fixture
def own_npu(tmp_path: Path) -> Path:
    path = tmp_path / "my-npu.toml"
    path.write_text(OWN_NPU)
    return path


@pytest.mark.parametrize("name", NPUS)
def test_a_microcontroller_has_an_npu_of_its_name_and_nothing_to_measure_with(name: str) -> None:
    target = load_target(name)
    assert target.bare_metal
    assert target.npu is not None
    assert target.npu.accelerator == name
    assert target.npu.macs_per_cycle == int(name.rpartition("-")[2])
    with pytest.raises(BareMetalError) as caught:
        _ = target.measuring
    assert caught.value.exit_code == 2
    assert "edgeq report" in caught.value.hint


def test_an_npu_of_ones_own_works_by_path(own_npu: Path) -> None:
    target = load_target(str(own_npu))
    assert target.npu is not None
    assert (target.npu.macs_per_cycle, target.npu.memory_mode) == (64, "Sram_Only")


@pytest.mark.parametrize(
    ("old", "new", "near"),
    [
        ("ethos-u55-64", "ethos-u55-65", "ethos-u55-64"),
        ("Ethos_U55_Deep_Embedded", "Ethos_U55_Deep_Embeded", "Ethos_U55_Deep_Embedded"),
        ("Ethos_U55_Deep_Embedded", "Ethos_U65_High_End", "Ethos_U55_High_End_Embedded"),
        ('"Sram_Only"', '"Sram_Onli"', "Sram_Only"),
        ('"Sram_Only"', '"Dedicated_Sram"', "Shared_Sram"),
    ],
)
def test_what_vela_does_not_know_of_an_npu_is_an_error_with_what_it_knows(
    own_npu: Path, old: str, new: str, near: str
) -> None:
    found = refused(own_npu, old, new)
    assert isinstance(found, UnknownNameError)
    assert near in found.hint


def test_a_dram_mode_is_for_npus_that_have_one(own_npu: Path) -> None:
    text = OWN_NPU.replace("ethos-u55-64", "ethos-u65-256").replace("Ethos_U55_Deep_Embedded", "Ethos_U65_High_End")
    own_npu.write_text(text.replace("Sram_Only", "Dedicated_Sram_512KB"))
    npu = load_target(str(own_npu)).npu
    assert npu is not None
    assert npu.memory_mode == "Dedicated_Sram_512KB"


@pytest.mark.parametrize(
    "more", ["[bench]\nthreads = 1", '[emulation]\ncpu = "cortex-a53"', '[runtimes.onnxruntime]\nactivations = "int8"']
)
def test_what_takes_linux_means_nothing_on_a_microcontroller(own_npu: Path, more: str) -> None:
    found = refused(own_npu, "[npu]", f"{more}\n[npu]")
    assert "means nothing on a microcontroller" in found.message
    assert "arm-none-eabi" in found.hint


def test_a_microcontroller_without_an_npu_is_an_error(own_npu: Path) -> None:
    own_npu.write_text(OWN_NPU.partition("[npu]")[0])
    with pytest.raises(ConfigError, match="missing key `npu`"):
        load_target(str(own_npu))


def test_an_npu_means_nothing_beside_linux(own_board: Path) -> None:
    npu = OWN_NPU.partition("[npu]")[2]
    assert "npu means nothing on a board" in refused(own_board, "[bench]", f"[npu]{npu}[bench]").message


@pytest.mark.parametrize("key", ["ram_bytes = 2_147_483_648", "[bench]\nthreads = 2"])
def test_a_board_with_linux_needs_what_it_is_measured_with(own_board: Path, key: str) -> None:
    assert "missing key" in refused(own_board, key, "").message


OWN_CORE = OWN_NPU.partition("[npu]")[0] + '[cmsis_nn]\ncore = "cortex-m7"\n'


def test_a_core_without_npu_computes_with_cmsis_nn(own_npu: Path) -> None:
    own_npu.write_text(OWN_CORE)
    target = load_target(str(own_npu))
    assert target.bare_metal
    assert (target.npu, target.cmsis_nn.core if target.cmsis_nn else None) == (None, "cortex-m7")


def test_a_core_that_executorch_does_not_know_is_an_error(own_npu: Path) -> None:
    own_npu.write_text(OWN_CORE)
    assert "cortex-m8" in refused(own_npu, "cortex-m7", "cortex-m8").message


def test_layers_run_in_one_of_the_two(own_npu: Path) -> None:
    found = refused(own_npu, "[npu]", '[cmsis_nn]\ncore = "cortex-m55"\n[npu]')
    assert "both" in found.message
