"""Which of two artifacts is faster on a device: they take turns in one session, and the interval of the ratio decides.

Artifacts of other builds are held against those of the first one, or of one
build against the first of them that was named. A build deployed for this
lies on the device without being active.
"""

from __future__ import annotations

import datetime as dt
import secrets
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgeq import stats
from edgeq.errors import NothingToCompareError
from edgeq.files import append_line
from edgeq.records import Artifact, ComparedSide, Comparison, Deployment, Manifest
from edgeq.schema import to_json
from edgeq.stages.bench.place import Place
from edgeq.stages.bench.session import Taken, take
from edgeq.stages.bench.threads import choose_threads
from edgeq.stages.bench.timing import Entrant
from edgeq.stages.report.evidence import AN_EMULATOR, why_no_verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.device.transport import Transport
    from edgeq.progress import Progress
    from edgeq.stages.bench.plan import Settings

Cost = Literal["fewer", "more", "same", "cannot tell"]

COMPARISONS = "comparisons.jsonl"

SAME_WITHIN = 0.01
"""Two artifacts are called the same if the whole interval of their ratio is that near to 1."""

SAME_COUNT_WITHIN = 0.001
"""Counts of instructions repeat within that, from boot to boot."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A build and how it lies on the device."""

    build: Path
    manifest: Manifest
    deployment: Deployment


@dataclass(frozen=True, kw_only=True)
class Side:
    """An artifact of one of the builds: of the first, if ``of`` is 0."""

    of: int
    artifact: Artifact

    @property
    def key(self) -> tuple[int, str]:
        """What tells it from every other one."""
        return self.of, self.artifact.name


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What is held against what."""

    reference: Side
    candidate: Side


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The pairs, and a sentence for each artifact without a counterpart."""

    pairs: tuple[Pair, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The comparisons, and a sentence for each artifact without a counterpart."""

    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]


def pair_up(builds: Sequence[tuple[Path, Manifest]], names: Sequence[str]) -> Pairs:
    """What to compare: artifacts of one recipe and format in the first build and another; of one build the named ones.

    Raises NothingToCompareError if there is no pair, UnknownNameError for a
    name that is no artifact of the first build.
    """
    (_, first), *others = builds
    wanted = [Side(of=0, artifact=one) for one in first.chosen(names)]
    if not others:
        pairs = [Pair(reference=wanted[0], candidate=one) for one in wanted[1:]]
        left_out: list[str] = []
    else:
        pairs, left_out = [], []
        for of, (path, manifest) in enumerate(others, start=1):
            theirs = {(one.recipe, one.format): Side(of=of, artifact=one) for one in manifest.artifacts}
            for mine in wanted:
                found = theirs.pop((mine.artifact.recipe, mine.artifact.format), None)
                if found:
                    pairs.append(Pair(reference=mine, candidate=found))
                else:
                    left_out.append(f"{mine.artifact.name}: {path} has no {_kind(mine.artifact)}")
            if not names:
                left_out += [f"{one.artifact.name} of {path}: the first build has no such" for one in theirs.values()]
    if not pairs:
        raise NothingToCompareError([str(path) for path, _ in builds])
    return Pairs(pairs=tuple(pairs), left_out=tuple(left_out))


def compare(  # noqa: PLR0913  # what is compared, where and how
    contenders: Sequence[Contender],
    pairs: Sequence[Pair],
    transport: Transport,
    how: Settings,
    *,
    same_within: float = SAME_WITHIN,
    progress: Progress,
) -> tuple[Comparison, ...]:
    """Let all artifacts of ``pairs`` take turns; a line for each pair in BUILD/comparisons.jsonl of its candidate.

    Both of a pair run with the number of threads that suits the reference.
    Raises what :func:`edgeq.stages.bench.bench` raises.
    """
    sides = {side.key: side for pair in pairs for side in (pair.reference, pair.candidate)}
    places = []
    progress.step("checking builds and deployments")
    for of, one in enumerate(contenders):
        place = Place.of(one.build, one.manifest, one.deployment, transport, how)
        place.check(one.manifest, [side.artifact for side in sides.values() if side.of == of])
        places.append(place)

    def choose() -> list[Entrant]:
        references = {pair.reference.artifact.name: pair.reference.artifact for pair in pairs}
        choices = choose_threads(places[0], list(references.values()), progress=progress)
        threads = {
            side.key: choices[pair.reference.artifact.name].threads
            for pair in pairs
            for side in (pair.reference, pair.candidate)
        }
        return [
            Entrant(place=places[side.of], artifact=side.artifact, threads=threads[key]) for key, side in sides.items()
        ]

    taken = take(places[0], choose, progress=progress)
    at = {key: index for index, key in enumerate(sides)}
    session = secrets.token_hex(8)
    found = []
    for pair in pairs:
        indices = at[pair.reference.key], at[pair.candidate.key]
        comparison = _comparison(taken, indices, same_within=same_within, session=session)
        append_line(contenders[pair.candidate.of].build / COMPARISONS, to_json(comparison))
        found.append(comparison)
    return tuple(found)


def _comparison(taken: Taken, indices: tuple[int, int], *, same_within: float, session: str) -> Comparison:
    """What those two entrants' turns say of each other."""
    first, second = (taken.timed[index] for index in indices)
    reference, candidate = (_side(taken, index) for index in indices)
    place = taken.entrants[indices[0]].place
    ratio: stats.MedianRatio | None = None
    reason = AN_EMULATOR
    if place.how.timing != "emulated":
        ratio = stats.median_ratio(
            stats.split_rounds(first.latencies_ns, first.rounds),
            stats.split_rounds(second.latencies_ns, second.rounds),
            same_within=same_within,
        )
        reason = why_no_verdict(ratio, rounds=len(first.rounds))
    counted = reference.instructions, candidate.instructions
    count_ratio = counted[1] / counted[0] if counted[0] and counted[1] else None
    return Comparison(
        session=session,
        artifact=candidate.artifact,
        device=place.deployment.device,
        device_facts=place.deployment.device_facts,
        timing=place.how.timing,
        threads=first.threads,
        reference=reference,
        candidate=candidate,
        same_within=same_within,
        ratio=ratio.ratio if ratio else None,
        low=ratio.low if ratio else None,
        high=ratio.high if ratio else None,
        verdict=ratio.verdict if ratio else "cannot tell",
        smallest_effect=ratio.smallest_effect if ratio else None,
        instructions_ratio=count_ratio,
        cost=_cost(reference, candidate, count_ratio),
        reason=reason,
        unfit=taken.unfit,
        test_faults=first.test_faults or second.test_faults,
        states=taken.states,
        started_at=first.started_at.astimezone(dt.timezone.utc).isoformat(timespec="seconds"),
    )


def _side(taken: Taken, index: int) -> ComparedSide:
    entrant, timed = taken.entrants[index], taken.timed[index]
    place, artifact = entrant.place, entrant.artifact
    emulated = place.how.timing == "emulated"
    return ComparedSide(
        build=str(place.build),
        artifact=artifact.name,
        artifact_sha256=artifact.sha256,
        recipe=artifact.recipe,
        runner_sha256=place.deployment.runners[artifact.requires.runtime],
        latencies_ns=() if emulated else timed.latencies_ns,
        rounds=() if emulated else timed.rounds,
        steady_after=taken.warm_ups[index].steady_after,
        p50_ms=None if emulated else statistics.median(timed.latencies_ns) / 1e6,
        instructions=statistics.median_low(timed.instructions) if timed.instructions else None,
    )


def _cost(reference: ComparedSide, candidate: ComparedSide, ratio: float | None) -> Cost:
    """What the counts of instructions say; nothing where precisions differ, as theirs tell nothing of time."""
    if ratio is None or reference.recipe != candidate.recipe:
        return "cannot tell"
    if abs(ratio - 1) <= SAME_COUNT_WITHIN:
        return "same"
    return "fewer" if ratio < 1 else "more"


def _kind(artifact: Artifact) -> str:
    return f"{artifact.recipe} {artifact.format}"
