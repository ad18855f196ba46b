"""What ``edgeq compare`` found of two files in one session: it tells more than any two sessions do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.errors import ConfigError
from edgeq.records import Comparison
from edgeq.schema import from_json
from edgeq.stages.compare import COMPARISONS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeq.records import Observation


def read_comparisons(build: Path) -> tuple[Comparison, ...]:
    """The comparisons in which artifacts of that build were the candidates; a line that is none is left out."""
    path = build / COMPARISONS
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error
    found = []
    for line in lines:
        try:
            found.append(from_json(Comparison, line, where=str(path)))
        except ConfigError:
            continue  # cut short by a crash: the two sessions are compared instead, which says so
    return tuple(found)


def in_one_session(
    comparisons: Sequence[Comparison], before: Observation, now: Observation, device: str
) -> Comparison | None:
    """The newest one of these two very files on a clock of that device, which was fit for it."""
    fitting = [
        one
        for one in comparisons
        if one.timing != "emulated"
        and one.device == device
        and one.reference.artifact_sha256 == before.artifact_sha256
        and one.candidate.artifact_sha256 == now.artifact_sha256
        and not (one.unfit or one.test_faults)
    ]
    return max(fitting, key=lambda one: one.started_at, default=None)
