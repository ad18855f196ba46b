from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgeq.runner.elf import Floor, floor_of, loader_of, needed_versions, version_key
from edgeq.testing import sample_library


def test_the_newest_version_of_each_library_is_the_floor(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(sample_library("GLIBC_2.4", "GLIBC_2.17", "GLIBCXX_3.4", "CXXABI_1.3.11", "GCC_3.0"))
    (tmp_path / "b").write_bytes(sample_library("GLIBC_2.28", "GLIBCXX_3.4.22", "GLIBC_PRIVATE"))
    assert floor_of([tmp_path / "a"]) == Floor(glibc="2.17", glibcxx="3.4")
    assert floor_of([tmp_path / "a", tmp_path / "b"]) == Floor(glibc="2.28", glibcxx="3.4.22")


def test_a_program_names_its_dynamic_linker(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(sample_library("GLIBC_2.17"))
    assert loader_of(tmp_path / "a") == "/lib/ld-linux-aarch64.so.1"


def test_a_file_of_32_bits_is_read_as_one_of_64_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(sample_library("GLIBC_2.4", "GLIBC_2.34", "GLIBCXX_3.4.29", bits=32))
    assert floor_of([tmp_path / "a"]) == Floor(glibc="2.34", glibcxx="3.4.29")
    assert loader_of(tmp_path / "a") == "/lib/ld-linux-armhf.so.3"


def test_what_is_no_elf_file_needs_nothing(tmp_path: Path) -> None:
    (tmp_path / "script").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "empty").touch()
    assert floor_of(tmp_path.iterdir()) == Floor()
    assert loader_of(tmp_path / "script") == ""


@pytest.mark.parametrize("bits", [32, 64])
def test_a_damaged_file_ends_in_no_error_and_no_loop(tmp_path: Path, bits: int) -> None:
    whole = sample_library("GLIBC_2.17", "GLIBCXX_3.4.22", bits=bits)
    for size in range(len(whole)):
        needed_versions(whole[:size])
    chance = random.Random(0)  # noqa: S311  # bytes to damage
    for _ in range(500):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        needed_versions(bytes(damaged))
        (tmp_path / "damaged").write_bytes(damaged)
        loader_of(tmp_path / "damaged")


def test_a_real_library_is_read() -> None:
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so." in line}
    if not mapped:
        pytest.skip("this Python runs without glibc")
    assert any(name.startswith("GLIBC_") for name in needed_versions(Path(mapped.pop()).read_bytes()))


def test_versions_are_compared_as_numbers() -> None:
    assert version_key("2.4") < version_key("2.28")
    assert version_key("") < version_key("2.4")
