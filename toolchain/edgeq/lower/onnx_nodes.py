"""Every node of an .onnx: which kernel of ONNX Runtime computes it, and why it is no int8 one where it is not.

Two things are looked at, and what was written into the file is not one of
them: the graph that ONNX Runtime's optimizer makes of it (level "extended"),
which keeps names, so that each written node leads to the kernel it went
into; and the profile of one inference with everything switched on, as the
runner has it, which names each kernel that ran, conversions and transposes
among them. What is read from the one only means something beside the
other: both readings are here.
"""

from __future__ import annotations

import ast
import json
import platform
import re
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnx
import onnx_ir as ir
import onnxruntime as ort

from edgeq.lower.coverage import share
from edgeq.lower.onnx_graph import constant, producer
from edgeq.lower.onnx_rewrites.kept_float import is_copy
from edgeq.lower.reasons import Why, for_recipe, rewrite_of
from edgeq.quantize.source import earlier_names, module_of, place_of, source_in, source_of
from edgeq.records import Movement, NodeFacts, Nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch.fx import Node

    from edgeq.quantize import QuantizedProgram
    from edgeq.records import Runs

Activations = Literal["int8", "uint8"]

MOVES = frozenset(
    {
        "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Concat", "Split", "Gather",
        "GatherElements", "GatherND", "ScatterElements", "ScatterND", "Shape", "Cast", "CastLike", "Identity", "Pad",
        "Expand", "Tile", "Constant", "ConstantOfShape", "DepthToSpace", "SpaceToDepth", "ReverseSequence", "Compress",
    }
)  # fmt: skip
"""Operators whose results are values of their inputs, or a constant: there is nothing to compute."""

_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
_PLANNED = frozenset(
    {
        "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "ReduceMean", "GlobalAveragePool", "MaxPool", "Clip",
        "Relu", "Elu", "Gelu", "HardSwish", "LeakyRelu", "Sigmoid", "Tanh",
    }
)  # fmt: skip
"""What :mod:`edgeq.quantize.plan` makes int8 where its neighbours allow: what both runtimes take in some form."""

_HIS_ALONE = frozenset({"MatMul", "Conv", "Softmax", "AveragePool", "Where"})
"""ONNX Runtime has int8 kernels for these, also where XNNPACK has none: for a product of two tensors, or in 3-D."""

_INTEGER = re.compile(r"QLinear|QGemm|MatMulInteger|ConvInteger|DynamicQuantize|DynamicQuantizeMatMul")
_KINDS = {
    "QuantizeLinear": "quantize", "DynamicQuantizeLinear": "quantize", "DequantizeLinear": "dequantize",
    "Transpose": "transpose", "ReorderInput": "transpose", "ReorderOutput": "transpose",
}  # fmt: skip
_ADDED = re.compile(r"_token_\d+$|/duplicated$|_kernel_time$")
"""What ONNX Runtime hangs on the name of a node that it moves or doubles."""

_IMAGE = 4
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
_BYTES = (ir.DataType.INT8, ir.DataType.UINT8)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where in the user's model a node comes from; ``names`` are what a recipe may call it."""

    module: str = ""
    source: str = ""
    names: tuple[str, ...] = ()


def origin_of(node: Node) -> Origin:
    """Of a node of the exported program."""
    return Origin(module=module_of(node), source=source_of(node), names=earlier_names(node))


def noted_origin(notes: Mapping[str, str]) -> Origin:
    """Of a node of a graph that the exporter made itself, from its notes beside the node."""
    scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))
    module = next((scope for scope in reversed(scopes[:-1]) if scope), "")
    return Origin(
        module=module,
        source=source_in(notes.get("pkg.torch.onnx.stack_trace", ""), module),
        names=tuple(filter(None, scopes)),
    )


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A kernel that ran: bytes are those of the tensors it read (weights apart) and wrote."""

    name: str
    kernel: str
    bytes: int
    reads: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What ONNX Runtime makes of a file on this machine.

    ``fused`` is its optimizer's graph with the names of the file, ``final``
    the one that it ran, and ``ran`` the kernels of one inference.
    """

    fused: onnx.ModelProto
    final: onnx.ModelProto
    ran: tuple[Ran, ...]


def look(data: bytes, *, activations: Activations, feeds: Mapping[str, Any]) -> Seen:
    """Let ONNX Runtime optimize a file, and run it once."""
    with tempfile.TemporaryDirectory() as folder:
        extended, everything = Path(folder) / "extended.onnx", Path(folder) / "everything.onnx"
        ort.InferenceSession(
            data, _options(extended, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, activations), providers=_PROVIDERS
        )
        options = _options(everything, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, activations)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(data, options, providers=_PROVIDERS)
        session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text())
        return Seen(
            fused=onnx.load(extended),
            final=onnx.load(everything),
            ran=tuple(_ran(event) for event in events if event.get("cat") == "Node" and "op_name" in event["args"]),
        )


_PROVIDERS = ["CPUExecutionProvider"]


def _options(path: Path, level: ort.GraphOptimizationLevel, activations: Activations) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(path)
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if activations == "int8":
        options.add_session_config_entry("session.qdqisint8allowed", "1")  # the default on ARM
    return options


def _ran(event: Mapping[str, Any]) -> Ran:
    facts = event["args"]
    return Ran(
        name=_ADDED.sub("", _ADDED.sub("", event["name"])),
        kernel=facts["op_name"],
        bytes=int(facts.get("activation_size", 0)) + int(facts.get("output_size", 0)),
        reads=tuple(next(iter(tensor)) for tensor in facts.get("input_type_shape", ()) if tensor),
    )


def nodes_of(  # noqa: PLR0913  # what is known of a file
    program: QuantizedProgram,
    model: ir.Model,
    seen: Seen,
    origins: Mapping[str, Origin],
    *,
    cost: Callable[[ir.Node], int],
    integer_products: frozenset[str],
    triple: str,
    activations: Activations,
) -> Nodes:
    """All that is known of the nodes of ``model``; ``cost`` counts the multiply-accumulates of one."""
    looked = _Looked(program, model, seen, origins, integer_products)
    total = sum(cost(node) for node in model.graph)
    facts = [looked.fact(node, cost(node), total) for node in model.graph if not looked.is_notation(node)]
    return Nodes(
        nodes=tuple(facts),
        movements=tuple(looked.movements()),
        notes=tuple(_assumed(triple, activations=activations)),
    )


def _assumed(triple: str, *, activations: Activations) -> Iterator[str]:
    wanted, here = triple.partition("-")[0], platform.machine()
    if wanted != here:
        yield (
            f"kernels were read off ONNX Runtime on this {here} processor; the target's is {wanted}, which may choose "
            "other kernels, and other layouts between them"
            + (
                ". Pairs of int8 Q and DQ were allowed to fuse (session.qdqisint8allowed), as they are on ARM"
                if activations == "int8"
                else ""
            )
        )


class _Looked:
    """A written graph beside what ONNX Runtime made of it."""

    def __init__(
        self,
        program: QuantizedProgram,
        model: ir.Model,
        seen: Seen,
        origins: Mapping[str, Origin],
        integer_products: frozenset[str],
    ) -> None:
        self._program = program
        self._graph = model.graph
        self._seen = seen
        self._origins = origins
        self._products = integer_products
        self._by_name = {node.name: node for node in seen.fused.graph.node if node.name}
        self._makes = {value: node for node in seen.fused.graph.node for value in node.output if value}
        self._ran = {one.name: one for one in seen.ran}

    def is_notation(self, node: ir.Node) -> bool:
        """Whether a node says how numbers are stored, or computes on constants: nothing of it is left to run."""
        if node.op_type in _CONVERSIONS or node.op_type == "Constant" or is_copy(node):
            return True
        return (node.name or "") not in self._by_name and all(map(_is_constant, node.inputs))

    def fact(self, node: ir.Node, macs: int, total: int) -> NodeFacts:
        """What became of one written node."""
        kernel = self._kernel(node)
        runs = self._runs(node, kernel)
        origin = self._origin(node.name or "")
        why = Why()
        scales_a_layer = self._program.quantizes_at_run_time and node.name not in self._origins
        if runs == "float" and self._program.recipe.quantized and not scales_a_layer:
            why = self._why_float(node, macs, origin)
        return NodeFacts(
            node=node.name or node.outputs[0].name or "",
            op=node.op_type,
            module=origin.module,
            source=origin.source,
            runs=runs,
            kernel=kernel,
            delegated=why.code != "unfused",
            macs=macs,
            mac_share=share(macs, total) if total else 0.0,
            code=why.code,
            reason=why.sentence,
            rewrite=rewrite_of("onnx", node.op_type, why, origin.source),
        )

    def _kernel(self, node: ir.Node) -> str:
        """The kernel that a written node went into: its own, or the first that makes something of its results."""
        if node.name in self._by_name:
            return str(self._by_name[node.name].op_type)
        values = [value for value in node.outputs if value.name]
        met = set()
        while values:
            value = values.pop(0)
            if value.name in self._makes:
                return str(self._makes[value.name].op_type)
            met.add(value)
            for use in value.uses():
                values += [result for result in use.node.outputs if result not in met]
        return ""

    def _runs(self, node: ir.Node, kernel: str) -> Runs:
        if node.op_type in MOVES:
            return "moves"
        dtype = node.outputs[0].dtype
        if _INTEGER.match(kernel) or node.op_type in self._products or dtype in _BYTES:
            return "int8"
        if dtype is not None and dtype not in _FLOATS:
            return "other"
        ran = self._ran.get(node.name or "")
        return "int8" if ran is not None and ran.reads[:1] in (("int8",), ("uint8",)) else "float"

    def _why_float(self, node: ir.Node, macs: int, origin: Origin) -> Why:
        name = node.op_type
        if name == "MatMulNBits":
            return Why(
                "float-kernel", "ONNX Runtime computes this MatMulNBits in float on a processor without dot products"
            )
        data = [value for value in node.inputs if value is not None and not _is_constant(value)]
        weighted = macs > 0 and len(data) == 1
        by_recipe = for_recipe(
            self._program.recipe, names=origin.names, is_layer=weighted, is_product=macs > 0 and not weighted
        )
        if by_recipe is not None:
            return by_recipe
        if name in ("Add", "Mul") and len(data) == 1:
            return Why("float-operands", "it computes with a constant, which stays float")
        stored = [use.node for result in node.outputs for use in result.uses()]
        asked = all(producer(value, "DequantizeLinear") for value in (node.inputs[:2] if weighted else data))
        asked = asked and bool(stored) and all(reader.op_type == "QuantizeLinear" for reader in stored)
        if asked and (name in _PLANNED or macs):
            return Why("unfused", f"ONNX Runtime has no int8 kernel for this {name} between Q and DQ")
        return self._by_kind(node, data, is_flat_layer=weighted and _is_flat(node))

    def _by_kind(self, node: ir.Node, data: Sequence[ir.Value], *, is_flat_layer: bool) -> Why:
        """For a node around which nothing is quantized."""
        name = node.op_type
        if name in _HIS_ALONE and not (name in _PLANNED and is_flat_layer):
            return Why(
                "no-common-kernel",
                f"ONNX Runtime has an int8 kernel for {name}, XNNPACK has none for this, and one graph serves both",
            )
        if name not in _PLANNED:
            return Why("float-kernel", f"ONNX Runtime computes {name} in float alone")
        return self._neighbours(node, data)

    def _neighbours(self, node: ir.Node, data: Iterable[ir.Value]) -> Why:
        for value in data:
            made_by = value.producer()
            if made_by is None:
                return Why("float-operands", f"it reads the input {value.name}, which is float")
            if made_by.op_type != "DequantizeLinear":
                return Why("float-operands", f"it reads {self._called(made_by)}, which is float")
        readers = [use.node for result in node.outputs for use in result.uses() if use.node.op_type != "QuantizeLinear"]
        what = self._called(readers[0]) if readers else "the model's output"
        return Why("float-operands", f"its result goes to {what} in float")

    def movements(self) -> Iterator[Movement]:
        """What ran and computed nothing."""
        makes = {value: node for node in self._seen.final.graph.node for value in node.output}
        reads: dict[str, list[onnx.NodeProto]] = {}
        for node in self._seen.final.graph.node:
            for value in node.input:
                reads.setdefault(value, []).append(node)
        final = {_plain(node.name): node for node in self._seen.final.graph.node if node.name}
        written = {node.name: node for node in self._graph}
        for one in self._seen.ran:
            asked = written.get(one.name)
            kind = "copy" if asked is not None and is_copy(asked) else _KINDS.get(one.kernel)
            if kind is not None:
                yield Movement(
                    kind=kind,  # type: ignore[arg-type]  # all are kinds
                    node=one.name if asked is not None else "",
                    at=self._origin(one.name).source if asked is not None and one.kernel == "Transpose"
                    else self._beside(final.get(one.name), makes, reads),
                    bytes=one.bytes,
                    inserted=asked is None or one.kernel != "Transpose",
                )  # fmt: skip

    def _beside(
        self,
        node: onnx.NodeProto | None,
        makes: Mapping[str, onnx.NodeProto],
        reads: Mapping[str, list[onnx.NodeProto]],
    ) -> str:
        """``in front of`` the next kernel that comes of a line of the user's, or ``behind`` the last."""
        ahead = [] if node is None else [other for value in node.output for other in reads.get(value, ())]
        while ahead:
            other = ahead.pop(0)
            if other.op_type not in _KINDS:
                return f"in front of {self._told(other)}"
            ahead += [after for value in other.output for after in reads.get(value, ())]
        while node is not None:
            node = makes.get(node.input[0])
            if node is not None and node.op_type not in _KINDS:
                return f"behind {self._told(node)}"
        return "at the model's edge"

    def _told(self, kernel: onnx.NodeProto) -> str:
        origin = self._origin(_plain(kernel.name)) if kernel.name else Origin()
        return _short(kernel.op_type, origin)

    def _called(self, node: ir.Node) -> str:
        return _short(node.op_type, self._origin(node.name or ""))

    def _origin(self, name: str) -> Origin:
        """Of a written node: edgeq's rewrites and the optimizer hang something on the name they found."""
        if name in self._origins:
            return self._origins[name]
        near = (known for known in self._longest_first if name.startswith((f"{known}_", f"{known}/")))
        return next((self._origins[known] for known in near), Origin())

    @cached_property
    def _longest_first(self) -> list[str]:
        return sorted(filter(None, self._origins), key=len, reverse=True)


def _short(what: str, origin: Origin) -> str:
    told = " ".join(filter(None, (origin.module, place_of(origin.source))))
    return f"{what} ({told})" if told else what


def _plain(name: str) -> str:
    return _ADDED.sub("", name)


def _is_constant(value: ir.Value | None) -> bool:
    """Whether a value is one of the file, or read from one."""
    if value is None or constant(value) is not None or value.is_initializer():
        return True
    made_by = value.producer()
    return made_by is not None and made_by.op_type in (*_CONVERSIONS, "Transpose", "Constant") and all(
        map(_is_constant, made_by.inputs)
    )  # fmt: skip


def _is_flat(node: ir.Node) -> bool:
    """Whether a convolution is one that both runtimes have: of images or signals."""
    shape = node.outputs[0].shape
    return shape is None or len(shape) <= _IMAGE
