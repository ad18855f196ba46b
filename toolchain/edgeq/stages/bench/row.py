"""One row of BUILD/measurements.jsonl, of what a session saw of an artifact."""

from __future__ import annotations

import datetime as dt
import secrets
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.records import Deployment, DeviceState, Measurement
from edgeq.stages.bench.op_instructions import middle_of
from edgeq.stages.bench.plan import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.device.cores import Pinning
    from edgeq.records import Artifact, LeakCheck, ThreadsTried
    from edgeq.stages.bench.accuracy import Scores
    from edgeq.stages.bench.profile import Profiled
    from edgeq.stages.bench.timing import Timed
    from edgeq.stages.bench.warmup import WarmUp


@dataclass(frozen=True, kw_only=True)
class Session:
    """What the rows of one session share."""

    id: str
    deployment: Deployment
    how: Settings
    states: tuple[DeviceState, ...]
    unfit: tuple[str, ...]


def row_of(  # noqa: PLR0913  # what a row is made of
    session: Session,
    artifact: Artifact,
    timed: Timed,
    scores: Scores,
    *,
    tried: tuple[ThreadsTried, ...],
    warm_up: WarmUp,
    pinned: Pinning,
    profiled: Profiled,
    leak: LeakCheck | None,
) -> Measurement:
    """The row of one artifact."""
    deployment, how, states = session.deployment, session.how, session.states
    told = [state.throttled for state in states if state.throttled is not None]
    at_rate = how.pace.rate_hz is not None
    return Measurement(
        id=secrets.token_hex(8),
        artifact=artifact.name,
        artifact_sha256=artifact.sha256,
        device=deployment.device,
        device_facts=deployment.device_facts,
        timing=how.timing,
        threads=timed.threads,
        warmup=timed.warmup,
        latencies_ns=timed.latencies_ns,
        rounds=timed.rounds,
        load_ns=statistics.median_low(timed.load_ns),
        first_ns=statistics.median_low(timed.first_ns),
        instructions=middle_of(timed.instructions),
        peak_rss_bytes=max(timed.peak_rss_bytes, default=None),
        planned_bytes=timed.planned_bytes,
        correct=scores.correct,
        agree_fp32=scores.agree_fp32,
        agreement_with_host=scores.agreement_with_host,
        labelled=scores.labelled,
        total=scores.total,
        predictions=scores.predictions,
        tried=tried,
        ops=profiled.ops,
        profiled_ns=profiled.latencies_ns,
        unprofiled_ns=profiled.unprofiled_ns,
        profiled_rounds=profiled.rounds,
        profiled_instructions=profiled.instructions,
        pushed_bytes=_pushed_bytes(artifact, deployment),
        celsius=(states[0].celsius, states[-1].celsius),
        throttled=any(told) if told else None,
        states=states,
        started_at=timed.started_at.astimezone(dt.timezone.utc).isoformat(timespec="seconds"),
        runner_sha256=deployment.runners[artifact.requires.runtime],
        session=session.id,
        mode=how.mode,
        pause_ms=how.pace.pause_ms or None,
        rate_hz=how.pace.rate_hz,
        arrivals=how.pace.arrivals if at_rate else None,
        executions_ns=timed.executions_ns,
        spans_ns=tuple(timed.spans_ns),
        before_ns=timed.before_ns,
        steady_after=warm_up.steady_after,
        steady_search_ns=warm_up.searched_ns,
        cold_start_ns=_median(timed.cold_start_ns),
        cpus=timed.cpus,
        pinning=f"not pinned: {timed.not_pinned}" if timed.not_pinned else pinned.why,
        mhz=tuple(None if khz is None else khz // 1000 for khz in timed.khz),
        unfit=session.unfit,
        load_rss_bytes=_median(timed.load_rss_bytes),
        load_anonymous_bytes=_median(timed.load_anonymous_bytes),
        leak=leak,
        test_faults=timed.test_faults,
    )


def _pushed_bytes(artifact: Artifact, deployment: Deployment) -> int | None:
    """What a device needs to run this artifact alone; None if the deployment does not say how large its runner is."""
    runtime = deployment.runtime_bytes.get(artifact.requires.runtime)
    return None if runtime is None else runtime + artifact.size_bytes


def _median(values: Sequence[int]) -> int | None:
    return statistics.median_low(values) if values else None
