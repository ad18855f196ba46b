from __future__ import annotations

import json

import pytest

from edgeq.runner.profile import operator_times
from edgeq.runner.protocol import Profile, StreamError


def _executorch(*operators: tuple[str, str, list[int]]) -> Profile:
    told = {"operators": [{"name": name, "kind": kind, "ns": ns} for name, kind, ns in operators]}
    return Profile(format="executorch", json=json.dumps(told).encode())


def _traced(name: str, start: int, took: int, op: str = "Conv", category: str = "Node") -> dict[str, object]:
    shapes = [{"float": [1, 3]}, {"float": []}]
    args = {"op_name": op, "input_type_shape": shapes} if category == "Node" else {}
    return {"cat": category, "pid": 1, "tid": 1, "dur": took, "ts": start, "ph": "X", "name": name, "args": args}


def _onnxruntime(*events: dict[str, object]) -> Profile:
    return Profile(format="onnxruntime", json=json.dumps(events).encode())


def test_a_delegates_call_counts_what_its_operators_do_not() -> None:
    found = operator_times(
        _executorch(
            ("Convert (NC) #1", "delegated", [1, 2]),
            ("Convolution (NHWC, QC8) IGEMM #1", "delegated", [10, 20]),
            ("delegate", "delegate", [15, 21]),
            ("mean.out", "kernel", [7, 8]),
        ),
        2,
    )

    assert [(one.kernel, one.place, one.ns) for one in found] == [
        ("Convert (NC)", "delegated", (1, 2)),
        ("Convolution (NHWC, QC8) IGEMM", "delegated", (10, 20)),
        ("delegate", "delegate", (4, 0)),
        ("mean.out", "kernel", (7, 8)),
    ]


def test_nodes_of_onnx_runtime_belong_to_the_run_they_are_in() -> None:
    profile = _onnxruntime(
        _traced("session_initialization", 0, 5, category="Session"),
        _traced("a_kernel_time", 10, 3),
        _traced("b_kernel_time", 14, 0, "Relu"),
        _traced("model_run", 9, 6, category="Session"),
        _traced("a_kernel_time", 20, 4),
        _traced("b_kernel_time", 24, 2, "Relu"),
        _traced("model_run", 19, 8, category="Session"),
    )

    a, b = operator_times(profile, 2)

    assert (a.name, a.kernel, a.ns, a.reads, a.accelerated) == ("a", "Conv", (3000, 4000), ((1, 3), ()), True)
    assert (b.name, b.kernel, b.ns) == ("b", "Relu", (0, 2000))


def test_the_nodes_inside_of_a_loop_are_part_of_it() -> None:
    profile = _onnxruntime(
        _traced("inner_kernel_time", 11, 3),
        _traced("inner_kernel_time", 15, 3),
        _traced("loop_kernel_time", 10, 10, "Loop"),
        _traced("after_kernel_time", 20, 1),
        _traced("model_run", 9, 12, category="Session"),
    )

    assert [one.name for one in operator_times(profile, 1)] == ["loop", "after"]


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (Profile(format="other", json=b"{}"), "unknown format, 'other'"),
        (Profile(format="executorch", json=b"["), "not what executorch writes"),
        (Profile(format="onnxruntime", json=b'{"a": 1}'), "not what onnxruntime writes"),
        (_executorch(("a", "kernel", [1])), "1 times of a, of 2 executions"),
        (_executorch(("a", "kernel", [1, -1])), "not what executorch writes"),
        (
            _onnxruntime(
                _traced("a_kernel_time", 1, 1),
                _traced("model_run", 0, 3, category="Session"),
                _traced("model_run", 5, 3, category="Session"),
            ),
            "differ in their operators",
        ),
    ],
)
def test_what_is_no_profile_of_so_many_executions_is_refused(profile: Profile, said: str) -> None:
    with pytest.raises(StreamError, match=said):
        operator_times(profile, 2)
