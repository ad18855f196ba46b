"""The recipe ``int8-fastest``: which operations to leave in float so that the whole takes least on the device.

Every operation of the fp32 and of the int8-static artifact is timed on the
device. Which of them to run in int8, with what a conversion costs at each
border, is a minimum cut (``labelling``). What it says is an estimate: a
kernel that was fused with its neighbour has no time of its own, and a border
breaks fusions. So the mixed artifact is built and profiled in turn, the costs
are corrected by what it shows, and the cut is made anew, until it stays.

On the machine that builds, all mixed artifacts are then timed beside both
twins, in turn. The fastest is timed once more, in a session of its own, and
is taken only if it is faster than either; else the recipe becomes that of
the faster twin, and says so. A board is not here: its times come from an
earlier ``edgeq bench --profile``, and whether the artifact is faster there
is for the next one to tell.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import records, stats
from edgeq.device.inventory import LOCAL, default_device
from edgeq.errors import NoOperatorTimesError
from edgeq.quantize import FloatGraph
from edgeq.quantize.plan import plan_int8
from edgeq.quantize.source import module_of, source_of
from edgeq.recipe import Recipe, named
from edgeq.stages.fastest.costs import Costs, Operations, corrected, first_costs, operations_of, sorted_out
from edgeq.stages.fastest.desk import Desk, desk
from edgeq.stages.fastest.labelling import cheapest, cost_ns
from edgeq.target import Target

if TYPE_CHECKING:
    from edgeq.progress import Progress

FASTEST = "int8-fastest"
FP32, INT8 = "fp32", "int8-static"

_MOST_CUTS = 4
_ROUNDS, _CONFIRMING_ROUNDS = 20, 40

__all__ = ["FASTEST", "Found", "Made", "SpeedGround", "fastest", "measured_here", "require_times"]


@dataclass(frozen=True, kw_only=True)
class Made:
    """An artifact in the making: its file, and the operators of it."""

    path: Path
    sha256: str
    operators: tuple[records.FileOperator, ...]


@dataclass(frozen=True, kw_only=True)
class SpeedGround:
    """What the search needs: the graph, the twins, how to make an artifact of a recipe, and what was measured.

    ``make(recipe, path)`` writes one. ``sample`` is one input as a runner
    takes it. ``measured`` are the rows of the build that is being replaced,
    in the folder ``out``.
    """

    source: FloatGraph
    target: Target
    form: records.Format
    folder: Path
    model: str
    twins: Mapping[str, Made]
    make: Callable[[Recipe, Path], Made]
    sample: bytes
    measured: Sequence[records.Measurement]
    out: Path


@dataclass(frozen=True, kw_only=True)
class Found:
    """The recipe to build, and how it was found."""

    recipe: Recipe
    record: records.SpeedSearch


def measured_here(target: Target) -> bool:
    """Whether the machine that builds is the target's own device."""
    return default_device(target) == LOCAL and target.triple == f"{platform.machine()}-linux-gnu"


def require_times(target: Target, measured: Sequence[records.Measurement], out: Path) -> None:
    """NoOperatorTimesError if operators were never timed on a board that has to tell them."""
    if not measured_here(target) and not any(_tells_times(row) for row in measured):
        raise NoOperatorTimesError(out, target.name)


def _tells_times(row: records.Measurement) -> bool:
    return bool(row.ops) and row.timing == "hardware"


def fastest(ground: SpeedGround, *, progress: Progress) -> Found:
    """Settle ``int8-fastest`` for one format. NoOperatorTimesError, or what running artifacts here raises."""
    operations = operations_of(ground.source.graph.graph, plan_int8(ground.source.graph.graph))
    if not measured_here(ground.target):
        return _Cuts(ground, operations, progress).from_rows()
    threads = min(ground.target.measuring.threads, os.cpu_count() or 1)
    with desk(ground.form, ground.sample, threads, progress=progress) as here:
        return _Cuts(ground, operations, progress).measured_on(here)


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A labelling: what is in int8, the recipe that gives it, why, and its artifact where there is one."""

    int8: frozenset[str]
    recipe: Recipe
    why: str
    predicted_ns: int
    made: Made | None = None


class _Cuts:
    """One search in one format."""

    def __init__(self, ground: SpeedGround, operations: Operations, progress: Progress) -> None:
        self._ground = ground
        self._operations = operations
        self._progress = progress
        self._everything = frozenset(operations.names)

    def from_rows(self) -> Found:
        """From what a board told earlier; nothing can be timed there from here."""
        rows = self._rows()
        costs = first_costs(self._operations, rows[FP32].ops, rows[INT8].ops)
        candidate = self._cut(costs, f"the cut by times of operators on {rows[FP32].device}")
        twins = [self._twin(name, costs) for name in (FP32, INT8)]
        said = "; ".join(f"{one.recipe.name} {_ms(one.predicted_ns)}" for one in (candidate, *twins))
        reason = (
            f"predicted from operators timed on {rows[FP32].device}: {said}; not timed: run edgeq bench there to tell"
        )
        row = rows[FP32]
        return self._found(
            candidate, costs, [candidate, *twins], {}, outcome="cannot tell", reason=reason, device=row.device,
            timing=row.timing, threads=row.threads,
        )  # fmt: skip

    def _rows(self) -> dict[str, records.Measurement]:
        """The last rows that tell times, of both twins as they are now, from one session."""
        sessions: dict[str, dict[str, records.Measurement]] = {}
        for row in self._ground.measured:
            for name, twin in self._ground.twins.items():
                if _tells_times(row) and row.artifact_sha256 == twin.sha256:
                    sessions.setdefault(row.session, {})[name] = row
        whole = [rows for rows in sessions.values() if rows.keys() >= {FP32, INT8} and self._name_nodes(rows)]
        if not whole:
            raise NoOperatorTimesError(self._ground.out, self._ground.target.name, form=self._ground.form)
        return whole[-1]

    def _name_nodes(self, rows: Mapping[str, records.Measurement]) -> bool:
        """Whether the rows say whose time it is, which those of a build by an older edgeq do not."""
        return all(any(op.node in self._operations.part_of for op in row.ops) for row in rows.values())

    def measured_on(self, here: Desk) -> Found:
        """Profile, cut, build and profile again; then time the candidates beside the twins."""
        self._progress.step(f"timing the operators of both twins of the .{self._ground.form} on this machine")
        ops = _profiled(here, self._ground.twins)
        costs = first_costs(self._operations, ops[FP32], ops[INT8])
        base_ns = min(sorted_out(self._operations, rows, frozenset()).layout_ns for rows in ops.values())
        twins = [self._twin(name, costs) for name in (FP32, INT8)]
        candidates: list[_Candidate] = []
        with contextlib.ExitStack() as stack:
            while len(candidates) < _MOST_CUTS:
                candidate = self._cut(costs, self._why(len(candidates)))
                if candidate.int8 in {one.int8 for one in (*twins, *candidates)}:
                    break
                path = self._ground.folder / f"{self._ground.model}.trial{len(candidates)}.{self._ground.form}"
                stack.callback(path.unlink, missing_ok=True)
                self._progress.step(f"building a mixed artifact: {self._told(candidate)}")
                made = self._ground.make(candidate.recipe, path)
                candidates.append(dataclasses.replace(candidate, made=made))
                seen = _profiled(here, {FASTEST: made})[FASTEST]
                costs = corrected(costs, self._operations, seen, candidate.int8, base_ns)
            return self._judged(here, costs, twins, candidates)

    def _why(self, earlier: int) -> str:
        if not earlier:
            return "the cut by times of the twins' operators"
        return f"the cut by times corrected by {earlier} mixed artifact{'s' if earlier > 1 else ''}"

    def _cut(self, costs: Costs, why: str) -> _Candidate:
        choices, edges = costs.choices(self._operations), costs.edges(self._operations)
        wanted = cheapest(choices, edges)
        graph = self._ground.source.graph.graph
        in_float = [node for node in graph.nodes if node.name in self._everything - wanted]
        # The plan's own rules have the last word: what no int8 operation reads is not worth being int8.
        int8 = frozenset(one.node.name for one in plan_int8(graph, keep_float=in_float).operations)
        kept = tuple(name for name in self._operations.names if name not in int8)
        recipe = dataclasses.replace(named(INT8), name=FASTEST, keep_float=kept)
        return _Candidate(int8=int8, recipe=recipe, why=why, predicted_ns=cost_ns(int8, choices, edges))

    def _twin(self, name: str, costs: Costs) -> _Candidate:
        int8 = self._everything if name == INT8 else frozenset()
        predicted = cost_ns(int8, costs.choices(self._operations), costs.edges(self._operations))
        made = self._ground.twins[name]
        return _Candidate(int8=int8, recipe=named(name), why="a twin", predicted_ns=predicted, made=made)

    def _judged(self, here: Desk, costs: Costs, twins: list[_Candidate], candidates: list[_Candidate]) -> Found:
        """The fastest candidate if a session of its own confirms that it is faster than both twins; else a twin."""
        timed = self._timed(here, [*twins, *candidates], _ROUNDS)
        mixed = min(candidates, key=lambda one: _median(timed[_key(one)]), default=None)
        final = timed if mixed is None else self._timed(here, [*twins, mixed], _CONFIRMING_ROUNDS)
        twin = min(twins, key=lambda one: _median(final[_key(one)]))
        over = {} if mixed is None else {one.recipe.name: _ratio(final, one, mixed) for one in twins}
        said = ", ".join(f"{one.recipe.name} {_ms(_median(final[_key(one)]))}" for one in twins)
        if mixed is not None and all(ratio.verdict == "faster" for ratio in over.values()):
            told = ", ".join(f"{ratio.ratio:.2f}x as fast as {name}" for name, ratio in over.items())
            reason = f"{self._told(mixed)} takes {_ms(_median(final[_key(mixed)]))} where {said}: {told}"
            outcome: records.Outcome = "met"
            chosen = mixed
        else:
            outcome, chosen = "missed", twin
            reason = f"{self._none(mixed, over)}; {twin.recipe.name} is the faster twin, and is what this is: {said}"
        return self._found(
            chosen, costs, [*twins, *candidates], timed, outcome=outcome, reason=reason, device=LOCAL, timing="host",
            threads=here.threads,
        )  # fmt: skip

    def _none(self, mixed: _Candidate | None, over: Mapping[str, stats.MedianRatio]) -> str:
        if mixed is None:
            return "no mix is expected to be faster than both twins"
        told = " and ".join(f"{ratio.ratio:.2f}x as fast as {name} ({ratio.verdict})" for name, ratio in over.items())
        return f"no mixed artifact is faster than both twins: the best, {self._told(mixed)}, is {told}"

    def _told(self, candidate: _Candidate) -> str:
        kept = len(self._everything - candidate.int8)
        return f"{kept} of {len(self._everything)} operations in float"

    def _timed(self, here: Desk, candidates: Sequence[_Candidate], count: int) -> dict[str, list[tuple[int, ...]]]:
        paths = {_key(one): one.made.path for one in candidates if one.made is not None}
        return here.time(paths, count=count, progress=self._progress)

    def _found(  # noqa: PLR0913  # what a record is made of
        self,
        chosen: _Candidate,
        costs: Costs,
        candidates: Sequence[_Candidate],
        rounds: Mapping[str, list[tuple[int, ...]]],
        *,
        outcome: records.Outcome,
        reason: str,
        device: str,
        timing: records.Timing,
        threads: int,
    ) -> Found:
        self._progress.step(f"{FASTEST} as .{self._ground.form}: {reason}")
        recipe = dataclasses.replace(chosen.recipe, name=FASTEST)
        twins = {name: made.path.name for name, made in self._ground.twins.items()}
        return Found(
            recipe=recipe,
            record=records.SpeedSearch(
                name=FASTEST,
                format=self._ground.form,
                device=device,
                timing=timing,
                threads=threads,
                outcome=outcome,
                chosen=chosen.recipe.name if chosen.recipe.name in (FP32, INT8) else FASTEST,
                float_nodes=recipe.keep_float,
                reason=reason,
                conversion_ns=costs.rates.call * costs.correction,
                quantize_ns_per_element=costs.rates.quantize * costs.correction,
                dequantize_ns_per_element=costs.rates.dequantize * costs.correction,
                layout_ns_per_element=costs.rates.layout * costs.correction,
                costs=tuple(self._cost(name, costs, chosen.int8) for name in self._operations.names),
                trials=tuple(_trial(one, rounds, twins) for one in candidates),
            ),
        )

    def _cost(self, name: str, costs: Costs, int8: frozenset[str]) -> records.OperationCost:
        node = next(one.node for one in self._operations.plan if one.node.name == name)
        return records.OperationCost(
            node=name,
            module=module_of(node),
            source=source_of(node),
            float_ns=costs.float_ns.get(name, 0),
            int8_ns=costs.int8_ns.get(name, 0),
            runs_in="int8" if name in int8 else "float",
        )


def _profiled(here: Desk, made: Mapping[str, Made]) -> dict[str, tuple[records.OpTime, ...]]:
    found = here.profile({name: (one.path, one.operators) for name, one in made.items()})
    return {name: one.ops for name, one in found.items()}


def _key(candidate: _Candidate) -> str:
    return "" if candidate.made is None else candidate.made.path.name


def _trial(
    candidate: _Candidate, rounds: Mapping[str, list[tuple[int, ...]]], twins: Mapping[str, str]
) -> records.SpeedTrial:
    key = _key(candidate)
    mine = rounds.get(key)
    over = {
        name: _triple(stats.median_ratio(rounds[twin], mine))
        for name, twin in twins.items()
        if mine and twin in rounds and twin != key
    }
    return records.SpeedTrial(
        recipe=candidate.recipe.name,
        float_nodes=candidate.recipe.keep_float,
        why=candidate.why,
        predicted_ns=candidate.predicted_ns,
        median_ns=round(_median(mine)) if mine else None,
        over_fp32=over.get(FP32),
        over_int8=over.get(INT8),
    )


def _triple(ratio: stats.MedianRatio) -> tuple[float, float, float] | None:
    return None if ratio.low is None or ratio.high is None else (ratio.ratio, ratio.low, ratio.high)


def _ratio(
    rounds: Mapping[str, list[tuple[int, ...]]], reference: _Candidate, candidate: _Candidate
) -> stats.MedianRatio:
    return stats.median_ratio(rounds[_key(reference)], rounds[_key(candidate)])


def _median(rounds: Sequence[Sequence[int]]) -> float:
    return statistics.median(ns for each in rounds for ns in each)


def _ms(ns: float) -> str:
    return f"{ns / 1e6:.3g} ms"
