"""The database of the history: SQLite in the project, or PostgreSQL for a team, with one code for both.

One table, a row for each measurement: what one searches by in columns of its
own, everything else as the JSON of an :class:`~edgeq.records.Observation`,
so that a new field of a record needs no new column. See
docs/decisions/history.md.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import exc

from edgeq.errors import ConfigError, HistoryDriverError, HistoryError, NewerHistoryError
from edgeq.records import Observation
from edgeq.schema import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Self

    from edgeq.records import Measurement
    from edgeq.stages.history.place import Wanted

LOCK_WAIT_S = 10
"""How long to wait for another edgeq that writes."""

_LOCK_KEY = 0x656467_6571
"""Any number that other programs do not lock PostgreSQL by: "edgeq" in ASCII."""

_METADATA = sa.MetaData()
_VERSION = sa.Table("edgeq_schema", _METADATA, sa.Column("version", sa.Integer, nullable=False))
_MEASUREMENTS = sa.Table(
    "edgeq_measurements",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("session", sa.Text, nullable=False, index=True),
    sa.Column("started_at", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("artifact", sa.Text, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("git_commit", sa.Text, nullable=False),
    sa.Column("observation", sa.Text, nullable=False),
    sa.Index("edgeq_measurements_by_series", "model", "artifact", "device", "started_at"),
)

_MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_METADATA.create_all,)
"""Step i brings a database of schema i to schema i + 1; an empty one has schema 0."""


class Database:
    """A history that is open. Every failure is a HistoryError that names the place without its password."""

    def __init__(self, url: str, *, writes: bool) -> None:
        self._url = _parsed(url)
        self.shown = _shown(self._url)
        self._writes = writes
        self._engine: sa.Engine

    def __enter__(self) -> Self:
        with self._failures():
            self._engine = _engine(self._url, writes=self._writes)
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.dispose()

    def append(self, observations: Sequence[Observation]) -> int:
        """Add those that are not in it yet, all or none, and return how many they were."""
        rows = {one.measured.id: (one, one.measured) for one in observations if one.measured}
        with self._failures(), self._engine.begin() as connection:
            if self._url.get_backend_name() == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))
            self._bring_up_to_date(connection)
            there = sa.select(_MEASUREMENTS.c.id).where(_MEASUREMENTS.c.id.in_(list(rows)))
            known = set(connection.scalars(there))
            new = [_row(*row) for key, row in rows.items() if key not in known]
            if new:
                connection.execute(_MEASUREMENTS.insert(), new)
        return len(new)

    def read(self, wanted: Wanted) -> tuple[Observation, ...]:
        """The observations that are wanted, oldest first; none from a database that is not there yet."""
        query = _query(wanted)
        if self._url.get_backend_name() == "sqlite" and not Path(self._url.database or "").is_file():
            return ()  # to open it would make it
        with self._failures(), self._engine.begin() as connection:
            if self._version(connection) == 0:
                return ()
            texts = connection.scalars(query).all()
        return tuple(from_json(Observation, text, where=f"a row of the history in {self.shown}") for text in texts)

    def _bring_up_to_date(self, connection: sa.Connection) -> None:
        version = self._version(connection)
        for migrate in _MIGRATIONS[version:]:
            migrate(connection)
        if version != len(_MIGRATIONS):
            connection.execute(_VERSION.delete())
            connection.execute(_VERSION.insert().values(version=len(_MIGRATIONS)))

    def _version(self, connection: sa.Connection) -> int:
        """The schema that the database has; NewerHistoryError if this edgeq does not know it."""
        if not sa.inspect(connection).has_table(_VERSION.name):
            return 0
        version = connection.scalar(sa.select(_VERSION.c.version)) or 0
        if version > len(_MIGRATIONS):
            raise NewerHistoryError(self.shown, version, len(_MIGRATIONS))
        return version

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except ModuleNotFoundError as error:
            raise HistoryDriverError(error.name or "psycopg") from error
        except exc.SQLAlchemyError as error:
            raise self._told(error) from error
        except OSError as error:
            raise HistoryError(self.shown, f"cannot be used: {error.strerror or error}", _ELSEWHERE) from error

    def _told(self, error: exc.SQLAlchemyError) -> HistoryError:
        said = str(getattr(error, "orig", None) or error).strip()
        if self._url.password:
            said = said.replace(str(self._url.password), "***")
        for sign, reason, hint in _REASONS:
            if sign in said:
                return HistoryError(self.shown, reason, hint)
        return HistoryError(self.shown, f"cannot be used: {said.splitlines()[0] if said else error}", _ELSEWHERE)


_ELSEWHERE = "check the place, or name another with EDGEQ_HISTORY"
_REASONS = (
    ("database is locked", f"is locked: another program has been writing for {LOCK_WAIT_S} s", "try again later"),
    (
        "not a database",
        "is no SQLite database, or is damaged",
        "move the file away: the next edgeq bench begins a new one, with the measurements that builds still hold",
    ),
    (
        "malformed",
        "is damaged",
        "move the file away: the next edgeq bench begins a new one, with the measurements that builds still hold",
    ),
    ("readonly database", "may only be read", "mend the file's permissions, or name another place with EDGEQ_HISTORY"),
    (
        "unable to open database file",
        "cannot be opened",
        "mend the permissions of its folder, or name another place with EDGEQ_HISTORY",
    ),
    ("database or disk is full", "cannot grow: the disk is full", "free some space and try again"),
)
"""What drivers say, and what it means to a person; the first that fits."""


def _parsed(text: str) -> sa.URL:
    """The URL; a path is an SQLite file. ConfigError for neither, which is not shown: it may hold a password."""
    if "://" not in text:
        return sa.URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        url = sa.make_url(text)
    except (exc.ArgumentError, ValueError):
        url = None
    if url is None or url.get_backend_name() not in {"sqlite", "postgresql"}:
        kind = text.partition("://")[0]
        raise ConfigError(
            f"the history's URL ({kind}://...) is none that edgeq knows",
            hint="write postgresql://USER@HOST/DATABASE, or the path of an SQLite file",
        )
    return url.set(drivername="postgresql+psycopg") if url.get_backend_name() == "postgresql" else url


def _shown(url: sa.URL) -> str:
    """The place for messages: no password, nor a query, which may hold one."""
    if url.get_backend_name() == "sqlite":
        return url.database or "memory"
    return url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)


def _engine(url: sa.URL, *, writes: bool) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        # A database without an encoding of its own would hand out bytes.
        settings = {"connect_timeout": LOCK_WAIT_S, "client_encoding": "utf8"}
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args=settings)
    if writes and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"timeout": LOCK_WAIT_S})
    # The module sqlite3 begins transactions where it likes; edgeq does: a writer takes the lock before it looks.
    sa.event.listen(engine, "connect", lambda raw, _record: setattr(raw, "isolation_level", None))
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _query(wanted: Wanted) -> sa.Select[str]:
    columns = _MEASUREMENTS.c
    newest_first = sa.func.row_number().over(
        partition_by=(columns.target, columns.artifact, columns.device),
        order_by=(columns.started_at.desc(), columns.id.desc()),
    )
    chosen = sa.select(columns.observation, columns.started_at, columns.id, newest_first.label("age"))
    for column in ("model", "target", "artifact", "device"):
        if (value := getattr(wanted, column)) is not None:
            chosen = chosen.where(columns[column] == value)
    if wanted.session is not None:
        chosen = chosen.where(columns.session.startswith(wanted.session, autoescape=True))
    inner = chosen.subquery()
    query = sa.select(inner.c.observation).order_by(inner.c.started_at, inner.c.id)
    return query if wanted.newest is None else query.where(inner.c.age <= wanted.newest)


def _row(one: Observation, measured: Measurement) -> dict[str, str]:
    return {
        "id": measured.id,
        "session": measured.session,
        "started_at": measured.started_at,
        "model": one.model,
        "target": one.target,
        "artifact": one.artifact,
        "device": measured.device,
        "git_commit": one.commit,
        "observation": to_json(one),
    }
