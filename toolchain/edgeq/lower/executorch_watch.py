"""What ExecuTorch hands to XNNPACK, watched while it lowers: the graph of each partition, and why nodes stayed outside.

The partitioner is asked about each node that it left, one by one. (Its log
names every node that it looked at and did not take at that moment, also such
as it took later, together with others.)
"""

from __future__ import annotations

import contextlib
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from edgeq.lower.reasons import Why
from edgeq.lower.xnnpack import (
    CONFIGS,
    WhyNoPartition,
    XnnpackPartitioner,
    format_target_name,
    xnnpack_preprocess,
)
from edgeq.quantize.macs import operator_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.export import ExportedProgram
    from torch.fx import Node

INTEGERS = ("qint8", "quint8", "qdint8", "qpint8")
_BYTES = {"fp32": 4, "int32": 4, "qint32": 4, "qcint32": 4, "fp16": 2, "bf16": 2}
_FLOATS = (torch.float32, torch.float16)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A value of a graph of XNNPACK's: ``kind`` as it calls dtypes (``fp32``, ``qint8``)."""

    kind: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * _BYTES.get(self.kind, 1)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A node of a graph of XNNPACK's, such as ``Conv2d``; inputs that are constants do not count."""

    kernel: str
    handle: int
    inputs: tuple[Tensor, ...]
    output: Tensor
    reads: tuple[int, ...]
    writes: int

    @property
    def in_int8(self) -> bool:
        """Whether everything it reads is int8."""
        return bool(self.inputs) and all(tensor.kind in INTEGERS for tensor in self.inputs)


@dataclass
class Watched:
    """What ExecuTorch does while it lowers: the calls of each partition by its bytes, and why nodes were left out."""

    calls: dict[bytes, tuple[Call, ...]] = field(default_factory=dict)
    refusals: dict[str, Why] = field(default_factory=dict)

    def partitioner(self) -> XnnpackPartitioner:
        """Hands XNNPACK all that it has kernels for, and asks about what was left."""
        return _Asking(self.refusals)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look at what is handed to XNNPACK inside the block. It replaces a function: one thread at a time."""
        serialize = xnnpack_preprocess.serialize_xnnpack_binary

        def keep(graph: Any, constants: bytearray) -> bytes:  # noqa: ANN401  # ExecuTorch is not typed
            written: bytes = serialize(graph, constants)
            self.calls[bytes(written)] = tuple(_calls(graph))
            return written

        xnnpack_preprocess.serialize_xnnpack_binary = keep
        try:
            yield
        finally:
            xnnpack_preprocess.serialize_xnnpack_binary = serialize


class _Asking(XnnpackPartitioner):  # type: ignore[misc]  # ExecuTorch is not typed
    """Asks about each node that was left out, alone and when all is settled: only then is an answer about that node."""

    def __init__(self, refusals: dict[str, Why]) -> None:
        super().__init__(configs=CONFIGS)
        self._refusals = refusals

    def partition(self, exported_program: ExportedProgram) -> Any:  # noqa: ANN401  # ExecuTorch is not typed
        result = super().partition(exported_program)
        for node in result.tagged_exported_program.graph.nodes:
            if node.op == "call_function" and "delegation_tag" not in node.meta:
                config = self.target_partitioner_configs.get(format_target_name(node.target.__name__))
                self._refusals[node.name] = _why_left(node, config, exported_program)
        return result


def _why_left(node: Node, config: Any, program: ExportedProgram) -> Why:  # noqa: ANN401  # ExecuTorch is not typed
    name = operator_name(node)
    if name == "max_pool2d_with_indices" and _jumps(node):  # ExecuTorch gives it this name when it declines it
        return Why("constraint", "XNNPACK takes no max_pool2d whose stride is larger than its kernel")
    if config is None:
        return Why("no-kernel", f"XNNPACK has no kernel for {plain_name(name)}")
    if has_open_shape(node):
        return Why(
            "dynamic-shape",
            f"XNNPACK needs every shape beforehand, and that of this {plain_name(name)} is in the data",
        )
    said = _asked(node, config, program)
    if said is None:
        return Why(
            "constraint", f"XNNPACK takes this {plain_name(name)} alone, but in no partition with its neighbours"
        )
    return _classified(node, said)


def _jumps(pool: Node) -> bool:
    kernel, stride, *_ = (*pool.args[1:], [])
    return any(step > size for step, size in zip(stride or kernel, kernel, strict=False))  # type: ignore[arg-type]


def _asked(node: Node, config: Any, program: ExportedProgram) -> str | None:  # noqa: ANN401  # ExecuTorch is not typed
    """What the partitioner says against ``node``; empty if it says nothing, None if it takes the node."""
    with _heard(node) as reasons:
        taken = config.check_constraints(node, program)
    return None if taken else (reasons[-1] if reasons else "")


_WORDS = (
    ("dtype", ("invalid dtype", "mixed input dtypes", "support dtype", "dtype conversion", "put dtype", "fp16")),
    ("dynamic-shape", ("dynamic shapes", "dynamic output sizes", "ymbolic")),
    ("layout", ("dim-order", "dim order")),
    ("unfused", ("dequant", "quantized node", "choose qparam", "choose_qparam")),
)
"""Which code ExecuTorch's words come to."""


def _classified(node: Node, said: str) -> Why:
    name = plain_name(operator_name(node))
    code = next((code for code, words in _WORDS if any(word in said for word in words)), "constraint")
    if code == "dtype":
        return Why(code, _about_dtypes(node, name))
    if not said:
        said = "a step other than 1" if name == "slice" else f"not with these arguments: {_arguments(node)}"
    return Why(code, f"XNNPACK does not take this {name}: {said.rstrip('.')}")


def _about_dtypes(node: Node, name: str) -> str:
    given, made = (
        sorted({plain_dtype(value.dtype) for near in nodes for value in values_of(near)})
        for nodes in (node.all_input_nodes, [node])
    )
    if name == "to_dim_order":
        return f"XNNPACK does not turn {' and '.join(given)} into {' and '.join(made)}"
    strange = sorted({*given, *made} - {plain_dtype(dtype) for dtype in _FLOATS})
    return f"XNNPACK computes {name} in float32 alone, not in {' and '.join(strange or given)}"


def _arguments(node: Node) -> str:
    return ", ".join(str(arg) for arg in node.args if not isinstance(arg, torch.fx.Node)) or "none"


class _Ear(logging.Handler):
    """Takes what the partitioner says about one node: it says so to its log alone."""

    def __init__(self, node: Node, into: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._node = node
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        said: Any = record.msg
        if isinstance(said, WhyNoPartition) and said.node is self._node:
            self._into.append(str(said.reason))


@contextlib.contextmanager
def _heard(node: Node) -> Iterator[list[str]]:
    reasons: list[str] = []
    ear = _Ear(node, reasons)
    loggers = [
        logging.getLogger(f"executorch.backends.xnnpack.partition.config.{name}")
        for name in ("gemm_configs", "generic_node_configs", "node_configs", "xnnpack_config")
    ]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(ear)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
    try:
        yield reasons
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(ear)
            logger.setLevel(level)
            logger.propagate = propagate


def _calls(graph: Any) -> Iterator[Call]:  # noqa: ANN401  # ExecuTorch is not typed
    """The nodes of XNNPACK's own graph, in its order."""
    tensors, constants = {}, set()
    for value in graph.xvalues:
        held = value.xvalue_union
        tensor = getattr(held, "tensor_value", held)
        tensors[tensor.id_out] = Tensor(
            kind=tensor.datatype.name.removeprefix("xnn_datatype_"), shape=tuple(map(int, tensor.dims))
        )
        if tensor.constant_buffer_idx:
            constants.add(tensor.id_out)
    for node in graph.xnodes:
        made = vars(node.xnode_union)
        reads = tuple(
            number for name, number in made.items()
            if name.startswith("input") and name.endswith("_id") and number in tensors and number not in constants
        )  # fmt: skip
        writes = next(number for name, number in made.items() if name.startswith("output") and name.endswith("_id"))
        yield Call(
            kernel=type(node.xnode_union).__name__.removeprefix("XNN"),
            handle=int(node.debug_handle),
            inputs=tuple(tensors[number] for number in reads),
            output=tensors[writes],
            reads=reads,
            writes=writes,
        )


def plain_name(name: str) -> str:
    """The name of an operator without what ExecuTorch's dialect adds to it."""
    return name.strip("_").removesuffix("_copy")


def values_of(node: Node) -> list[torch.Tensor]:
    """The tensors that ``node`` gives, as the exporter imagined them."""
    value = node.meta.get("val")
    several = value if isinstance(value, tuple | list) else (value,)
    return [one for one in several if isinstance(one, torch.Tensor)]


def plain_dtype(dtype: torch.dtype) -> str:
    """``float32`` for ``torch.float32``."""
    return str(dtype).removeprefix("torch.")


def has_open_shape(node: Node) -> bool:
    """Whether a shape that the node reads or gives is settled only at run time."""
    values = [value for near in (*node.all_input_nodes, node) for value in values_of(near)]
    return any(not isinstance(size, int) for value in values for size in value.shape)
