from __future__ import annotations

from edgeq.mobile.releases import Releases, dependency
from edgeq.records import Requires

PACKAGE = Releases(
    name="org.example:runtime",
    registry="Some Registry",
    versions=("1.9.0", "1.10.0", "1.10.2", "1.12.0"),
    seen_on="2026-01-02",
    rule="newer ones will do",
)


def requires(version: str) -> Requires:
    return Requires(runtime="onnxruntime", version=version)


def test_a_version_that_is_there_needs_no_note() -> None:
    found = dependency(requires("1.10.2"), PACKAGE)
    assert (found.name, found.version, found.published, found.note) == ("org.example:runtime", "1.10.2", True, "")


def test_a_version_that_was_not_there_says_so_and_names_the_nearest() -> None:
    found = dependency(requires("1.10.1"), PACKAGE)
    assert found.version == "1.10.1"
    assert found.published is False
    assert "2026-01-02" in found.note
    assert "Write 1.10.2" in found.note
    assert "newer ones will do" in found.note
    assert "Write 1.12.0" in dependency(requires("1.11.0"), PACKAGE).note


def test_a_version_newer_than_the_list_is_not_claimed_to_be_missing() -> None:
    found = dependency(requires("1.13.0"), PACKAGE)
    assert found.published is None
    assert "newest version known" in found.note
    assert "1.12.0" in found.note
