"""What each operator takes: in runs apart from the timed ones, told in the words of the user's model.

A .onnx's operators keep the names of the file's nodes in the profile; fused
ones that of one of them, or of the value they give. XNNPACK tells kinds of
operators in the order of its graph, out of which it has fused some away; the
two sequences are aligned.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq import stats
from edgeq.errors import RunnerProtocolError
from edgeq.files import write_text
from edgeq.integrity import read_golden
from edgeq.records import FileOperator, OperatorMap, OpTime
from edgeq.runner import OperatorTimes, operator_times
from edgeq.runner.protocol import StreamError
from edgeq.schema import from_json, to_json
from edgeq.stages.bench.op_instructions import instructions_of, middle_of, rate_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from edgeq.progress import Progress
    from edgeq.records import Artifact
    from edgeq.runner import Execution
    from edgeq.stages.bench.place import Place
    from edgeq.stages.bench.timing import Timed

_ROUNDS = 5
_EMULATED_ROUNDS = 2
"""Instructions are the same each time; an interrupt falls into few of ten inferences."""
_MOST_REPEATS = 10
"""In each round. Five times ten runs give a mean to a tenth of the microsecond that the runtimes' clocks tick in."""

_XNNPACK_NAMES = {
    "XNNConv2d": r"Convolution|Fully Connected",  # of a single point
    "XNNDepthwiseConv2d": r"Convolution",
    "XNNConvTranspose2d": r"Deconvolution",
    "XNNFullyConnected": r"Fully Connected|Dynamic Fully Connected",
    "XNNBatchMatrixMultiply": r"Batch Matrix Multiply",
    "XNNStaticTranspose": r"Transpose",
    "XNNStaticReshape": r"Copy|Static Reshape|Reshape",
    "XNNConcatenate2": r"Copy|Concatenate",
    "XNNConcatenate3": r"Copy|Concatenate",
    "XNNConcatenate4": r"Copy|Concatenate",
    "XNNConcatenate5": r"Copy|Concatenate",
    "XNNStaticSlice": r"Slice",
    "XNNConstantPad": r"Constant Pad",
    "XNNStaticConstantPad": r"Constant Pad",
    "XNNConvert": r"Convert",
    "XNNSoftmax": r"Softmax",
    "XNNGlobalAvgPooling2d": r"Global Average Pooling|Mean|Reduce|Sum",
    "XNNAvgPooling2d": r"Average Pooling",
    "XNNMaxPooling2d": r"Max Pooling",
    "XNNArgMaxPooling2d": r"Arg ?Max Pooling",
    "XNNStaticResizeBilinear2D": r"Resize Bilinear",
    "XNNAdd": r"Add",
    "XNNSubtract": r"Subtract",
    "XNNMultiply": r"Multiply",
    "XNNDiv": r"Divide",
    "XNNMaximum": r"Maximum",
    "XNNMinimum": r"Minimum",
    "XNNPReLU": r"PReLU",
}
"""What XNNPACK calls what it makes of a node; a type that is not here goes by its own name."""


_ADDED = re.compile(r"(_nchwc|_nhwc|_token_\d+|/\w+Fusion)+$")
"""What ONNX Runtime's optimizers put behind the name of a node, or of its value, that they replace."""

_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")

_INLINED = {"HardSwish": ("HardSigmoid", "Mul"), "Gelu": ("Mul", "Erf", "Add", "Tanh", "Div")}
"""Functions that ONNX Runtime writes out where it has no kernel, and what it writes."""

_ADDED_KERNELS = (*_CONVERSIONS, "Transpose", "ReorderInput", "ReorderOutput")


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """The operators of an artifact over one inference, and what profiling costs.

    ``latencies_ns`` are of the profiled inferences, ``unprofiled_ns`` of as
    many others in turn with them, ``rounds`` says how many in each turn.
    ``instructions`` are those of a profiled one, None where none are counted.
    """

    ops: tuple[OpTime, ...]
    latencies_ns: tuple[int, ...]
    unprofiled_ns: tuple[int, ...] = ()
    rounds: tuple[int, ...] = ()
    instructions: int | None = None


NOT_PROFILED = Profiled(ops=(), latencies_ns=())


def operators_file(build: Path, artifact: str) -> Path:
    """Where the operator map of an artifact lies in a build."""
    return build / "operators" / f"{artifact}.json"


def write_operators(build: Path, operators: OperatorMap) -> None:
    """Put a map where :func:`profile_all` reads it."""
    write_text(operators_file(build, operators.artifact), to_json(operators) + "\n")


def read_operators(build: Path, artifact: str) -> tuple[FileOperator, ...]:
    """The map of an artifact; none in a build that an older edgeq made."""
    file = operators_file(build, artifact)
    return from_json(OperatorMap, file.read_bytes(), where=str(file)).operators if file.is_file() else ()


def profile_all(
    place: Place, artifacts: Sequence[Artifact], timed: Mapping[str, Timed], *, progress: Progress
) -> dict[str, Profiled]:
    """Profile every artifact on its golden input as it was ``timed``, in rounds that visit all of them; by name.

    In a round each is visited by a process that profiles it and, right
    before or after, by one that does not: what profiling costs is known in
    instructions already where those are counted.
    """
    emulated = place.how.timing == "emulated"
    count = _EMULATED_ROUNDS if emulated else _ROUNDS
    watched: dict[str, list[Execution]] = {artifact.name: [] for artifact in artifacts}
    beside: dict[str, list[Execution]] = {artifact.name: [] for artifact in artifacts}
    for number in range(1, count + 1):
        progress.step(f"profiling the operators of {len(artifacts)} artifacts, round {number} of {count}")
        for done, artifact in enumerate(artifacts):
            progress.advance(done, len(artifacts))
            golden = read_golden(place.build, artifact)[0]
            for profile in (True,) if emulated else (True, False) if number % 2 else (False, True):
                seen = _visit(place, artifact, timed[artifact.name].threads, golden, profile=profile)
                (watched if profile else beside)[artifact.name].append(seen)
    device = place.transport.name
    return {
        name: profiled(
            seen,
            read_operators(place.build, name),
            device=device,
            beside=beside[name],
            instructions=middle_of(timed[name].instructions),
        )
        for name, seen in watched.items()
    }


def _visit(place: Place, artifact: Artifact, threads: int, golden: bytes, *, profile: bool) -> Execution:
    return place.run(
        artifact,
        threads=threads,
        warmup=place.how.warmup,
        repeats=min(place.how.repeats, _MOST_REPEATS),
        samples=(golden,),
        on_outputs=lambda _index, _data: None,
        profile=profile,
    )


def profiled(
    visits: Sequence[Execution],
    operators: Sequence[FileOperator],
    *,
    device: str,
    beside: Sequence[Execution] = (),
    instructions: int | None = None,
) -> Profiled:
    """What profiled visits of one artifact say together; ``beside`` are as many that were not profiled.

    ``instructions`` are those of an inference that is not profiled, where they are counted.
    RunnerProtocolError if one holds no profile, or they differ in their operators.
    """
    try:
        rounds = [_by_identity(_profiled_runs(visit)) for visit in visits]
    except StreamError as error:
        raise RunnerProtocolError(device, str(error)) from error
    first = rounds[0]
    if any(each.keys() != first.keys() for each in rounds):
        raise RunnerProtocolError(device, "it ran other operators each time")
    latencies = tuple(run.ns for visit in visits for run in visit.runs)
    rate = rate_of(visits)
    ops = [
        _op_time(one, [ns for each in rounds for ns in each[identity].ns], origin, rate)
        for (identity, one), origin in zip(first.items(), matched(tuple(first.values()), operators), strict=True)
    ]
    return Profiled(
        ops=(*ops, _rest(ops, latencies, instructions)),
        latencies_ns=latencies,
        unprofiled_ns=tuple(run.ns for visit in beside for run in visit.runs),
        rounds=tuple(len(visit.runs) for visit in visits) if beside else (),
        instructions=middle_of([run.instructions for visit in visits for run in visit.runs]),
    )


def _rest(ops: Sequence[OpTime], latencies: Sequence[int], instructions: int | None) -> OpTime:
    """What was in no operator: of the time of a profiled inference, of the ``instructions`` of one that is not."""
    counted = [op.instructions for op in ops if op.instructions is not None]
    ns = round(stats.interquartile_mean(latencies)) - sum(op.ns for op in ops)
    return OpTime(
        name="",
        ns=max(0, ns),
        delegated=False,
        instructions=instructions - sum(counted) if counted and instructions is not None else None,
        kind="unattributed",
    )


def _profiled_runs(visit: Execution) -> tuple[OperatorTimes, ...]:
    """The operators with the times of the profiled executions, not of those before them."""
    if visit.profile is None:
        raise StreamError("it gave no profile")
    before = 1 + len(visit.warmup)
    return tuple(one.since(before) for one in operator_times(visit.profile, before + len(visit.runs)))


def _by_identity(timed: Sequence[OperatorTimes]) -> dict[tuple[object, int], OperatorTimes]:
    """Each operator under what is the same of it in every process.

    ONNX Runtime numbers what it adds (``ReorderOutput_token_27``), and orders
    what is free to run in any order, anew each time.
    """
    found: dict[tuple[object, int], OperatorTimes] = {}
    for one in timed:
        like = (_ADDED.sub("", one.name), one.kernel, one.reads)
        found[like, sum(1 for other, _ in found if other == like)] = one
    return found


def _op_time(timed: OperatorTimes, ns: Sequence[int], origin: FileOperator | None, rate: float | None) -> OpTime:
    return OpTime(
        name=timed.name,
        ns=round(stats.interquartile_mean(ns)),
        instructions=instructions_of(timed, ns, rate),
        delegated=timed.place != "kernel" or timed.accelerated,
        kernel=timed.kernel,
        kind="delegate call" if timed.place == "delegate" else "operator",
        op=origin.op if origin else "",
        elements=(origin.elements if origin else 0) or math.prod(next(iter(timed.reads), (0,))),
        node=origin.node if origin else "",
        module=origin.module if origin else "",
        source=origin.source if origin else "",
    )


def matched(timed: Sequence[OperatorTimes], operators: Sequence[FileOperator]) -> tuple[FileOperator | None, ...]:
    """For each operator of a profile the one of the file that it is; None where that cannot be told."""
    if any(one.partition is not None for one in operators) or not any(one.accelerated for one in timed):
        return _in_order(timed, operators)
    return tuple(_by_name(timed, operators))


def _by_name(timed: Sequence[OperatorTimes], operators: Sequence[FileOperator]) -> Iterator[FileOperator | None]:
    """By the node's name, or by the value it gives, which ONNX Runtime names some fused nodes after."""
    names = {output: one for one in operators for output in one.outputs} | {one.name: one for one in operators}
    found = [names.get(one.name) or names.get(_ADDED.sub("", one.name)) for one in timed]
    called = {one.name for one in found if one is not None}
    place = {one.name: index for index, one in enumerate(operators)}
    last = -1
    for one, own in zip(timed, found, strict=True):
        if own is not None:
            last = place[own.name]
            yield own
        else:
            yield _inlined(one, operators[last + 1 :], called)


def _inlined(timed: OperatorTimes, following: Sequence[FileOperator], called: Collection[str]) -> FileOperator | None:
    """For a part of a function that the runtime wrote out, which loses the name: the next one that no kernel is of."""
    if timed.kernel in _ADDED_KERNELS:
        return None
    for one in following:
        if one.op in _INLINED:
            return one if timed.kernel in _INLINED[one.op] else None
        if one.name in called and one.op not in _CONVERSIONS:
            return None
    return None


def _in_order(timed: Sequence[OperatorTimes], operators: Sequence[FileOperator]) -> tuple[FileOperator | None, ...]:
    """As many as possible, each operator of the file at most once, in order, of one kind and in one partition."""
    calls, number = [], 0
    for one in timed:
        calls.append(number if one.place == "delegated" else None)
        number += one.place == "delegate"

    def fits(i: int, j: int) -> bool:
        operator, kernel = operators[j], timed[i].kernel
        if operator.partition is None:
            return timed[i].place == "kernel" and kernel == operator.name
        return operator.partition == calls[i] and _is_kind(kernel, operator.name)

    return tuple(None if j is None else operators[j] for j in _aligned(len(timed), len(operators), fits))


def _aligned(count: int, others: int, fits: Callable[[int, int], bool]) -> list[int | None]:
    """The longest common subsequence (Wagner and Fischer 1974): for each of ``count`` the index of its partner."""
    longest = [[0] * (others + 1) for _ in range(count + 1)]
    for i in reversed(range(count)):
        row, below = longest[i], longest[i + 1]
        for j in reversed(range(others)):
            row[j] = max(below[j], row[j + 1], 1 + below[j + 1] if fits(i, j) else 0)
    partners: list[int | None] = [None] * count
    i = j = 0
    while i < count and j < others:
        if fits(i, j) and longest[i][j] == 1 + longest[i + 1][j + 1]:
            partners[i] = j
            i, j = i + 1, j + 1
        elif longest[i][j] == longest[i][j + 1]:
            j += 1
        else:
            i += 1
    return partners


@functools.cache
def _is_kind(kernel: str, node: str) -> bool:
    """Whether XNNPACK may call what it makes of a node of that type ``kernel``."""
    own = re.sub(r"(?<=[a-z])(?=[A-Z])", " ?", node.removeprefix("XNN"))
    return re.match(_XNNPACK_NAMES.get(node, own), kernel, re.IGNORECASE) is not None
