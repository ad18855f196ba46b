"""Vela's summary: read strictly, added up over partitions, and never more than an estimate."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeq import vela
from edgeq.errors import MissingArmToolsError, VelaSummaryError
from edgeq.target import Npu, load_target

NPU = Npu(accelerator="ethos-u55-128", system_config="Ethos_U55_High_End_Embedded", memory_mode="Shared_Sram")
COLUMNS = {
    "experiment": "default",
    "core_clock": "500000000.0",
    "inferences_per_second": "5653.9",
    "sram_memory_used": "19.703125",
    "dram_memory_used": "0.0",
    "on_chip_flash_memory_used": "0.0",
    "off_chip_flash_memory_used": "26.484375",
    "nn_macs": "985632",
    "cycles_npu": "81110",
    "cycles_total": "88434",
}


@pytest.fixture(autouse=True)
def _any_vela(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vela, "vela_version", lambda: "5.1.0")


def _write(folder: Path, rows: int = 1, **changed: str | None) -> Path:
    columns = {name: value for name, value in {**COLUMNS, **changed}.items() if value is not None}
    file = folder / "output" / "out_summary_Ethos_U55_High_End_Embedded.csv"
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join([",".join(columns), *[",".join(columns.values())] * rows]) + "\n")
    return file


def test_a_summary_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    _write(tmp_path)
    found = vela.read_summary(tmp_path)
    assert (found["cycles_total"], found["sram_memory_used"], found["core_clock"]) == (88434, 19.703125, 5e8)


def test_an_estimate_of_one_partition_says_what_vela_says(tmp_path: Path) -> None:
    _write(tmp_path)
    found = vela.estimate([vela.read_summary(tmp_path)], NPU, outside=0)
    assert found is not None
    assert (found.by, found.clock_hz, found.cycles, found.compute_cycles) == ("Vela 5.1.0", 500_000_000, 88_434, 81_110)
    assert found.inferences_per_second == pytest.approx(float(COLUMNS["inferences_per_second"]), abs=0.1)
    assert found.mac_utilisation == pytest.approx(985_632 / 88_434 / 128)
    assert (found.sram_bytes, found.off_chip_flash_bytes, found.dram_bytes) == (20_176, 27_120, 0)


def test_partitions_add_up_but_take_turns_with_the_sram(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    for folder, cycles, sram in ((small, "1000", "1.0"), (large, "4000", "8.0")):
        folder.mkdir()
        _write(folder, cycles_total=cycles, sram_memory_used=sram)
    found = vela.estimate([vela.read_summary(small), vela.read_summary(large)], NPU, outside=3)
    assert found is not None
    assert (found.cycles, found.inferences_per_second, found.partitions, found.outside) == (5000, 100_000, 2, 3)
    assert (found.sram_bytes, found.off_chip_flash_bytes) == (8192, 2 * 27_120)


def test_nothing_for_the_npu_is_no_estimate() -> None:
    assert vela.estimate([], NPU, outside=7) is None


@pytest.mark.parametrize("value", [None, "", "many"])
def test_a_column_without_a_number_is_an_error_that_names_it(tmp_path: Path, value: str | None) -> None:
    _write(tmp_path, cycles_total=value)
    with pytest.raises(VelaSummaryError, match="no number for cycles_total") as caught:
        vela.read_summary(tmp_path)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("rows", [0, 2])
def test_a_summary_of_another_length_is_an_error(tmp_path: Path, rows: int) -> None:
    _write(tmp_path, rows=rows)
    with pytest.raises(VelaSummaryError, match=f"{rows} rows"):
        vela.read_summary(tmp_path)


def test_no_summary_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VelaSummaryError, match="0 summaries"):
        vela.read_summary(tmp_path)


def test_each_partition_is_compiled_in_a_folder_of_its_own_and_what_is_printed_stays_off_the_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    folders = []

    def compile_one(tosa: bytes, flags: list[str], *, intermediate_path: str, verbose: bool) -> bytes:
        assert (flags, verbose) == (["--flag"], False)
        folders.append(intermediate_path)
        print("Network summary for out")  # noqa: T201  # as Vela does
        _write(Path(intermediate_path), cycles_total=str(len(tosa)))
        return tosa * 2

    backend = SimpleNamespace(vela_compile=compile_one)
    with vela.listening(backend) as summaries:
        assert backend.vela_compile(b"one", ["--flag"], verbose=False) == b"oneone"
        backend.vela_compile(b"another", ["--flag"], verbose=False)
    assert [one["cycles_total"] for one in summaries] == [3, 7]
    assert len(set(folders)) == 2
    assert backend.vela_compile is compile_one
    assert capfd.readouterr() == ("", "")


def test_what_vela_ends_with_is_said_and_the_terminal_is_given_back(capfd: pytest.CaptureFixture[str]) -> None:
    def give_up(*_args: Any, **_others: Any) -> None:
        print("Error: Invalid memory mode")  # noqa: T201  # as Vela does
        sys.exit(1)

    backend = SimpleNamespace(vela_compile=give_up)
    with vela.listening(backend), pytest.raises(RuntimeError, match="Invalid memory mode"):
        backend.vela_compile(b"", [])
    print("after")  # noqa: T201  # seen again
    assert capfd.readouterr().out == "after\n"


def test_packages_that_are_missing_or_of_another_release_are_named_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version(name: str) -> str:
        if name == "tosa-tools":
            raise importlib.metadata.PackageNotFoundError(name)
        return "5.2.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(MissingArmToolsError) as caught:
        vela.require_packages(load_target("ethos-u55-128"))
    assert caught.value.exit_code == 3
    assert "ethos-u-vela 5.1.0 (here is 5.2.0) and tosa-tools 2026.5.0" in caught.value.message
    assert "pip install --no-deps ethos-u-vela==5.1.0 tosa-tools==2026.5.0" in caught.value.hint


def test_the_releases_that_the_set_up_installs_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", vela.ETHOS_U_PACKAGES.__getitem__)
    vela.require_packages(load_target("ethos-u55-128"))
    file = Path(__file__).parents[2] / "scripts" / "ethos-u.txt"
    pins = [line.split("#")[0].split() for line in file.read_text(encoding="utf-8").splitlines()]
    assert [pin[0] for pin in pins if pin] == [f"{name}=={version}" for name, version in vela.ETHOS_U_PACKAGES.items()]
