"""What each operator of a model took, from what the runtimes say of it in their own formats.

Both clocks tick in whole microseconds: XNNPACK's ``xnn_get_elapsed_time``
and ONNX Runtime's ``TimeDiffMicroSeconds`` cut off what is less, so that an
operator is half a microsecond too short on average.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from edgeq.runner.protocol import StreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgeq.runner.protocol import Profile

Place = Literal["kernel", "delegated", "delegate"]

_NUMBERED = re.compile(r" #\d+$")
_KERNEL_TIME = "_kernel_time"


@dataclass(frozen=True, kw_only=True)
class OperatorTimes:
    """One operator, in order of execution: ``ns[i]`` in the i-th execution of the first sample.

    ``kernel`` is the runtime's name of what computes, ``name`` the operator's
    own where the file has one (ONNX), else numbered by the runtime. ``place``
    is "kernel" for one of the runtime itself, "delegated" inside of a
    delegate, and "delegate" for what a delegate's call took beside the
    operators in it that come before. ``reads`` are the shapes of the tensors
    it took where the runtime tells. A kernel is ``accelerated`` where the
    runtime has no delegates: all of ONNX Runtime's are.
    """

    name: str
    kernel: str
    place: Place
    ns: tuple[int, ...]
    reads: tuple[tuple[int, ...], ...] = ()
    accelerated: bool = False

    def since(self, before: int) -> OperatorTimes:
        """Without the first ``before`` executions."""
        return replace(self, ns=self.ns[before:])


def operator_times(profile: Profile, executions: int) -> tuple[OperatorTimes, ...]:
    """The operators of all ``executions``; StreamError if the profile is not of so many alike."""
    reader = {"executorch": _of_executorch, "onnxruntime": _of_onnxruntime}.get(profile.format)
    if reader is None:
        raise StreamError(f"a profile in an unknown format, {profile.format!r}")
    try:
        found = tuple(reader(profile.json))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StreamError(f"the profile is not what {profile.format} writes: {error}") from error
    for one in found:
        if len(one.ns) != executions:
            raise StreamError(f"the profile has {len(one.ns)} times of {one.name}, of {executions} executions")
    return found


class _Operator(msgspec.Struct, frozen=True):
    name: str
    kind: Place
    ns: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]


class _Operators(msgspec.Struct, frozen=True):
    operators: tuple[_Operator, ...]


def _of_executorch(json: bytes) -> Iterator[OperatorTimes]:
    inside: list[_Operator] = []
    for one in msgspec.json.decode(json, type=_Operators).operators:
        ns = one.ns
        if one.kind == "delegated":
            inside.append(one)
        elif one.kind == "delegate":
            ns = tuple(max(0, whole - sum(parts)) for whole, *parts in zip(ns, *(op.ns for op in inside), strict=True))
            inside = []
        yield OperatorTimes(name=one.name, kernel=_NUMBERED.sub("", one.name), place=one.kind, ns=ns)


class _Arguments(msgspec.Struct, frozen=True):
    op_name: str = ""
    input_type_shape: tuple[dict[str, tuple[int, ...]], ...] = ()


class _Traced(msgspec.Struct, frozen=True):
    name: str
    cat: str = ""
    dur: Annotated[int, msgspec.Meta(ge=0)] = 0
    ts: int = 0
    args: _Arguments = _Arguments()


def _of_onnxruntime(json: bytes) -> Iterator[OperatorTimes]:
    """The nodes of each ``model_run``; one inside of another (in a loop) is part of it."""
    traced = msgspec.json.decode(json, type=tuple[_Traced, ...])
    runs = sorted((event.ts, event.ts + event.dur) for event in traced if event.name == "model_run")
    nodes = [event for event in traced if event.cat == "Node" and event.name.endswith(_KERNEL_TIME)]
    executions = [_outermost([node for node in nodes if start <= node.ts < end]) for start, end in _gaps(runs)]
    for same in itertools.zip_longest(*executions):
        names = {event and event.name for event in same}
        if len(names) != 1:
            raise StreamError("the executions differ in their operators, so there is no profile of one")
        first = same[0]
        yield OperatorTimes(
            name=first.name.removesuffix(_KERNEL_TIME),
            kernel=first.args.op_name,
            place="kernel",
            ns=tuple(event.dur * 1000 for event in same),
            accelerated=True,
            reads=tuple(next(iter(shape.values()), ()) for shape in first.args.input_type_shape),
        )


def _gaps(runs: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Each run up to where the next one begins: the last node of one may end in the microsecond it ends in."""
    for (start, end), after in itertools.zip_longest(runs, runs[1:]):
        yield start, after[0] if after else end + 1


def _outermost(nodes: list[_Traced]) -> list[_Traced]:
    """Those that are not inside of another; the trace has each behind those inside of it."""
    found: list[_Traced] = []
    for node in reversed(nodes):
        if not found or node.ts + node.dur <= found[-1].ts:
            found.append(node)
    return found[::-1]
