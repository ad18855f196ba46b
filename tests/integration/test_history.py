"""The history in real databases: a PostgreSQL server, and SQLite with several processes at once."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from postgres import PASSWORD, USER, Postgres, postgres

from edgeq.errors import HistoryError, NewerHistoryError
from edgeq.stages import history
from edgeq.stages.bench.rows import append
from edgeq.stages.history.database import Database
from edgeq.stages.history.place import Place, Wanted
from edgeq.testing import sample_measurement, tiny_build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgeq.records import Manifest

TINY = Wanted(model="tiny")
SESSIONS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture
def database(server: Postgres) -> str:
    """The URL of an empty database."""
    name = f"t{secrets.token_hex(8)}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.url(database=name)


def built(folder: Path, sessions: int) -> Manifest:
    manifest = tiny_build(folder)
    for number in range(sessions):
        for one in manifest.artifacts:
            row = sample_measurement(one, session=f"{folder.name}-{number:02d}")
            append(folder, replace(row, started_at=f"2026-01-{number + 1:02d}T00:00:00+00:00"))
    return manifest


def remember_in_a_process(folder: Path, url: str) -> subprocess.Popen[str]:
    """What ``edgeq bench`` does at its end, row after row, so that two of them meet often."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edgeq.pipeline import read_build\n"
        "from edgeq.stages import history\n"
        "from edgeq.stages.bench import read_measurements\n"
        "build = read_build(Path(sys.argv[1]))\n"
        "rows = read_measurements(build.path)\n"
        "for row in rows:\n"
        "    found = history.remember(build.path, build.manifest, [row])\n"
        "    assert found.added == 1, found\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        env={"EDGEQ_HISTORY": url, "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_processes_that_write_at_once_lose_nothing(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = str(tmp_path / "history.db") if kind == "sqlite" else request.getfixturevalue("database")
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        built(folder, SESSIONS)
    processes = [remember_in_a_process(folder, url) for folder in folders]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    found = history.read(Place(url=url), TINY).observations
    sessions = [one.measured.session for one in found if one.measured]
    assert len(found) == 2 * 2 * SESSIONS
    assert set(sessions) == {f"{folder.name}-{number:02d}" for folder in folders for number in range(SESSIONS)}


def test_a_team_reads_the_same_from_postgresql_as_from_sqlite(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeq.stages.bench import read_measurements

    manifest = built(tmp_path / "b", 4)
    rows = read_measurements(tmp_path / "b")
    rows = (*rows, *(replace(row, id=f"{row.id}-pi", device="pi", session=f"pi_{row.session}") for row in rows))
    places = [Place(url=database), Place(url=str(tmp_path / "history.db"))]
    for place in places:
        monkeypatch.setenv("EDGEQ_HISTORY", place.url)
        assert history.remember(tmp_path / "b", manifest, rows).added == len(rows)
        assert history.remember(tmp_path / "b", manifest, rows).added == 0
    for wanted in (
        TINY,
        Wanted(model="tiny", newest=2),
        Wanted(model="tiny", device="pi", artifact="tiny.fp32.pte"),
        Wanted(model="tiny", session="pi_"),
        Wanted(model="tiny", session="pi%"),
        Wanted(model="other"),
    ):
        first, second = (history.read(place, wanted).observations for place in places)
        assert first == second
    assert len(history.read(places[0], Wanted(model="tiny", session="pi_")).observations) == len(rows) // 2


def test_the_driver_of_a_plain_postgresql_url_is_the_one_that_edgeq_brings(database: str) -> None:
    with Database(database, writes=True) as opened:
        assert opened.append([]) == 0
        assert PASSWORD not in opened.shown
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT version FROM edgeq_schema").fetchall() == [(1,)]


def test_an_empty_database_is_an_empty_history(database: str) -> None:
    assert history.read(Place(url=database), TINY).observations == ()


def test_a_newer_schema_in_postgresql_is_refused(database: str) -> None:
    with Database(database, writes=True) as opened:
        opened.append([])
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE edgeq_schema SET version = 3")
    with pytest.raises(NewerHistoryError, match="its schema is 3, this one knows 1"):
        history.read(Place(url=database), TINY)


def test_a_user_who_may_only_read_can_read_and_is_told_when_writing(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = built(tmp_path / "b", 1)
    monkeypatch.setenv("EDGEQ_HISTORY", database)
    assert _remember(tmp_path / "b", manifest).added == 2
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE USER guest PASSWORD 'guest'")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest")
    guest = f"postgresql://guest:guest@{database.rpartition('@')[2]}"
    assert len(history.read(Place(url=guest), TINY).observations) == 2
    append(tmp_path / "b", replace(sample_measurement(manifest.artifacts[0]), id="another"))
    monkeypatch.setenv("EDGEQ_HISTORY", guest)
    assert "permission denied for table edgeq_measurements" in _remember(tmp_path / "b", manifest).why_not


def _remember(folder: Path, manifest: Manifest) -> history.Remembered:
    from edgeq.stages.bench import read_measurements

    return history.remember(folder, manifest, read_measurements(folder))


@pytest.mark.parametrize(
    ("password", "database", "why"),
    [("wrong-words", "postgres", "password authentication failed"), ("", "absent", "cannot be used")],
)
def test_what_a_server_refuses_is_told_without_the_password(
    server: Postgres, password: str, database: str, why: str
) -> None:
    url = server.url(password=password, database=database) if password else server.url(database=database)
    with pytest.raises(HistoryError, match=why) as refused:
        history.read(Place(url=url), TINY)
    said = f"{refused.value.message} {refused.value.hint} {refused.value.detail}"
    assert f"postgresql://{USER}:***@127.0.0.1:{server.port}/{database}" in said
    assert not any(secret in said for secret in (PASSWORD, "wrong-words", "gehe"))


def test_the_command_shows_a_teams_history(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = built(tmp_path / "b", 3)
    monkeypatch.setenv("EDGEQ_HISTORY", database)
    assert _remember(tmp_path / "b", manifest).added == 6
    done = subprocess.run(
        [sys.executable, "-m", "edgeq", "history", str(tmp_path / "b"), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    shown = json.loads(done.stdout)
    assert [len(one["points"]) for one in shown["series"]] == [3, 3]
    assert "***" in shown["place"]
    assert "gehe" not in done.stdout + done.stderr
