from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.errors import ConfigError, HistoryError, NewerHistoryError, NoHistoryError, UnknownNameError
from edgeq.project import load_project
from edgeq.stages import history
from edgeq.stages.history.database import Database
from edgeq.stages.history.place import Place, Wanted, place_of_build, place_of_project

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.records import Observation

TINY = Wanted(model="tiny")


def remembered(shop: Any, *sessions: str) -> history.Remembered:
    rows = [row for session in sessions for row in shop.rows(session)]
    return history.remember(shop.build, shop.manifest, rows)


def read(shop: Any, wanted: Wanted = TINY) -> tuple[Observation, ...]:
    return history.read(place_of_build(shop.build), wanted).observations


def test_measurements_go_to_the_projects_own_file(shop: Any) -> None:
    found = remembered(shop, "one")
    assert (found.added, found.why_not) == (2, "")
    assert found.place == str(shop.project / ".edgeq" / "history.db")
    assert (shop.project / ".edgeq" / "history.db").is_file()


def test_what_was_remembered_is_read_as_it_was_measured(shop: Any) -> None:
    remembered(shop, "one")
    assert [one.measured for one in read(shop)] == list(shop.rows("one"))
    assert {one.commit for one in read(shop)} == {"c0ffee"}


def test_a_row_is_remembered_once(shop: Any) -> None:
    remembered(shop, "one")
    assert remembered(shop, "one", "two").added == 2
    assert remembered(shop, "one", "two").added == 0
    assert len(read(shop)) == 4


def test_rows_that_could_not_be_written_are_caught_up_with(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_HISTORY", "/dev/null/history.db")
    failed = remembered(shop, "one")
    assert (failed.added, "/dev/null/history.db" in failed.why_not) == (0, True)
    monkeypatch.delenv("EDGEQ_HISTORY")
    assert remembered(shop, "one", "two").added == 4


def test_a_history_is_asked_for_what_is_wanted_alone(shop: Any) -> None:
    rows = [
        *shop.rows("aa1", started_at="2026-01-01T00:00:00+00:00"),
        *shop.rows("ab2"),
        *shop.rows("b%3", device="pi"),
    ]
    history.remember(shop.build, shop.manifest, [replace(row, id=str(n)) for n, row in enumerate(rows)])
    assert len(read(shop)) == 6
    assert len(read(shop, Wanted(model="other"))) == 0
    assert len(read(shop, Wanted(model="tiny", target="rpi5"))) == 0
    assert len(read(shop, Wanted(model="tiny", artifact="tiny.fp32.pte"))) == 3
    assert len(read(shop, Wanted(model="tiny", device="pi"))) == 2
    assert {one.measured.session for one in read(shop, Wanted(model="tiny", session="a")) if one.measured} == {
        "aa1",
        "ab2",
    }
    assert len(read(shop, Wanted(model="tiny", session="%"))) == 0


def test_the_newest_are_counted_for_each_artifact_and_device_and_come_oldest_first(shop: Any) -> None:
    for day in (3, 1, 2):
        history.remember(
            shop.build, shop.manifest, shop.rows(f"day {day}", started_at=f"2026-01-0{day}T00:00:00+00:00")
        )
    found = read(shop, Wanted(model="tiny", artifact="tiny.fp32.pte", newest=2))
    assert [one.measured.session for one in found if one.measured] == ["day 2", "day 3"]


def test_a_history_that_is_not_there_is_empty_and_is_not_made_by_looking(shop: Any) -> None:
    assert read(shop) == ()
    assert not (shop.project / ".edgeq").exists()


def test_the_variable_comes_before_the_project_and_the_project_before_its_file(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = load_project(shop.project)
    assert place_of_project(project).url == str(shop.project / ".edgeq" / "history.db")
    named = replace(project, history=replace(project.history, url="postgresql://db/edgeq"))
    assert place_of_project(named).url == "postgresql://db/edgeq"
    monkeypatch.setenv("EDGEQ_HISTORY", "other.db")
    assert place_of_project(named) == place_of_build(shop.build) == Place(url="other.db")


def test_a_history_can_be_switched_off_and_says_so(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_HISTORY", "off")
    assert remembered(shop, "one") == history.Remembered(why_not="EDGEQ_HISTORY is off", off=True)


def test_without_a_place_there_is_no_history_to_read(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_HISTORY", "off")
    with pytest.raises(NoHistoryError, match="EDGEQ_HISTORY is off"):
        read(shop)


def test_a_misspelt_device_or_artifact_is_an_error_with_a_suggestion(shop: Any) -> None:
    remembered(shop, "one")
    for wanted, near in (
        (Wanted(model="tiny", device="fak"), "fake"),
        (Wanted(model="tiny", artifact="tiny.fp32.ptee"), "tiny.fp32.pte"),
    ):
        with pytest.raises(UnknownNameError, match="the history: unknown") as refused:
            read(shop, wanted)
        assert refused.value.hint == f"did you mean {near!r}?"


@pytest.mark.parametrize("gone", ["origin.json", "project"])
def test_a_build_whose_project_is_unknown_says_so(shop: Any, gone: str) -> None:
    (shop.build / "origin.json").unlink() if gone == "origin.json" else (shop.project / "edgeq.toml").unlink()
    found = remembered(shop, "one")
    assert found.added == 0
    assert "set EDGEQ_HISTORY" in found.why_not


def test_a_broken_edgeq_toml_costs_no_measurement(shop: Any) -> None:
    (shop.project / "edgeq.toml").write_text("[model")
    assert "is not valid TOML" in remembered(shop, "one").why_not


@pytest.mark.parametrize(
    "url", ["mysql://root:geheim@db/edgeq", "nonsense://geheim", "postgresql://user:geheim@[::1/edgeq"]
)
def test_a_url_of_nothing_we_know_is_refused_and_its_password_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="is none that edgeq knows") as refused:
        Database(url, writes=True)
    assert "geheim" not in f"{refused.value} {refused.value.hint} {refused.value.detail}"


def test_a_password_is_not_shown_wherever_it_stands() -> None:
    database = Database("postgresql://ada:geheim@db:5433/edgeq?password=geheim", writes=True)
    assert database.shown == "postgresql://ada:***@db:5433/edgeq"


def test_a_server_that_does_not_answer_is_told_without_the_password(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_HISTORY", "postgresql://ada:geheim@127.0.0.1:1/edgeq")
    found = remembered(shop, "one")
    assert "postgresql://ada:***@127.0.0.1:1/edgeq cannot be used" in found.why_not
    assert "geheim" not in found.why_not


@pytest.mark.parametrize("content", [b"this is no database, not at all" * 40, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_told_and_left_alone(shop: Any, content: bytes) -> None:
    path = shop.project / ".edgeq" / "history.db"
    path.parent.mkdir()
    path.write_bytes(content)
    assert "move the file away" in remembered(shop, "one").why_not
    with pytest.raises(HistoryError, match=r"is no SQLite database, or is damaged|is damaged"):
        read(shop)
    assert path.read_bytes() == content


def test_a_database_of_a_newer_edgeq_is_refused(shop: Any) -> None:
    remembered(shop, "one")
    with sqlite3.connect(shop.project / ".edgeq" / "history.db") as connection:
        connection.execute("UPDATE edgeq_schema SET version = 7")
    connection.close()
    with pytest.raises(NewerHistoryError, match="its schema is 7, this one knows 1"):
        read(shop)
    assert "update edgeq" in remembered(shop, "two").why_not


def test_a_database_that_stays_locked_is_told(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.stages.history.database.LOCK_WAIT_S", 0)
    remembered(shop, "one")
    other = sqlite3.connect(shop.project / ".edgeq" / "history.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        assert "is locked: another program has been writing" in remembered(shop, "two").why_not
    finally:
        other.close()
    assert remembered(shop, "two").added == 2


def test_an_empty_file_is_an_empty_history(shop: Any) -> None:
    path = shop.project / ".edgeq" / "history.db"
    path.parent.mkdir()
    path.touch()
    assert read(shop) == ()
    assert remembered(shop, "one").added == 2


def test_a_place_where_no_file_can_be_made_is_told(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_HISTORY", "/proc/history.db")
    assert "cannot be opened; mend the permissions" in remembered(shop, "one").why_not


def test_a_damaged_row_is_told_with_its_place(shop: Any) -> None:
    remembered(shop, "one")
    path: Path = shop.project / ".edgeq" / "history.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE edgeq_measurements SET observation = '{'")
    connection.close()
    with pytest.raises(ConfigError, match=r"a row of the history in .* is damaged"):
        read(shop)
