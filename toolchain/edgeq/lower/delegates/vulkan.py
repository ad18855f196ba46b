"""Vulkan: GPUs of Android phones. Its int8 kernels take the graphs that edgeq quantizes as they are."""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from typing import TYPE_CHECKING, Any

from edgeq.lower.executorch import lowering as lowering_of_executorch
from edgeq.lower.executorch_watch import Watched, plain_name
from edgeq.lower.reasons import Why
from edgeq.quantize.macs import operator_name
from edgeq.quiet import quietly

with quietly():
    from executorch.backends.vulkan import utils, vulkan_preprocess
    from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner, VulkanSupportedOperators
    from executorch.backends.vulkan.patterns import fusable_patterns, get_all_fusable_subgraphs
    from executorch.backends.vulkan.serialization.vulkan_graph_serialize import (
        extract_vk_flatbuffer,
        flatbuffer_to_vk_graph,
    )

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch.export import ExportedProgram
    from torch.fx import Node

    from edgeq.lower.delegates.reference import Handed

BACKEND = "VulkanBackend"
NAME = "Vulkan"
SYSTEM = "Android with Vulkan 1.1"
UNCHECKED: tuple[str, ...] = (
    "that it runs: ExecuTorch's wheels hold no Vulkan, so that neither a GPU nor a software renderer ran it here",
    "what a GPU computes: its test vectors are those of the artifact for the CPU, which it need not give bit for bit",
    "that each shader is in the package that an app takes, and that a phone's driver runs it",
    "how fast it is",
)

_HALVES_JOIN = ("cat", "stack")


@contextlib.contextmanager
def lowering(program: ExportedProgram) -> Iterator[Handed]:
    """What stands around a lowering, see :class:`edgeq.lower.delegates.backend.Backend`."""
    with lowering_of_executorch(Watched()), _without_patterns_that_cannot_match(program), _watching() as handed:
        yield handed


def partitioner(refusals: dict[str, Why], *, half: bool) -> VulkanPartitioner:
    """Hands over what there are shaders for, see :class:`edgeq.lower.delegates.backend.Backend`."""
    return _Asking(refusals, {"force_fp16": True} if half else {})


def kernels(data: bytes, named: Mapping[str, int]) -> Counter[str]:
    """The calls of shaders, see :class:`edgeq.lower.delegates.backend.Backend`."""
    if data[4:8] != b"VH00":
        raise ValueError(f"it begins with {data[4:8]!r} and not with the header of Vulkan's graphs")
    flat = extract_vk_flatbuffer(data)
    if flat[4:8] != b"VK00":
        raise ValueError(f"its graph has the identifier {flat[4:8]!r}")
    graph = flatbuffer_to_vk_graph(flat)
    for constant in graph.constants:
        if constant.named_key and named.get(constant.named_key, 0) < constant.length:
            raise ValueError(f"a tensor of {constant.length:,} bytes is not in the file")
    return Counter(call.name.removesuffix(".default") for call in graph.chain)


class _Asking(VulkanPartitioner):  # type: ignore[misc]  # ExecuTorch is not typed
    """Asks about each node that was left out, alone and when all is settled: only then is an answer about that node."""

    def __init__(self, refusals: dict[str, Why], options: dict[str, Any]) -> None:
        super().__init__(options)
        self._refusals = refusals

    def partition(self, exported_program: ExportedProgram) -> Any:  # noqa: ANN401  # ExecuTorch is not typed
        result = super().partition(exported_program)
        graph = result.tagged_exported_program.graph
        fused = get_all_fusable_subgraphs(result.tagged_exported_program.graph_module)
        asked = _Heard(utils.DEFAULT_TEXTURE_LIMITS, utils.DEFAULT_BUFFER_LIMIT, fusable_subgraphs=fused)
        for node in graph.nodes:
            if node.op == "call_function" and "delegation_tag" not in node.meta:
                self._refusals[node.name] = asked.why_not(node)
        return result


class _Heard(VulkanSupportedOperators):  # type: ignore[misc]  # ExecuTorch is not typed
    """Keeps what ExecuTorch says of a node: otherwise it says so to its log alone."""

    _said = ""

    def log_skip(self, node: Node, reason: str) -> None:
        del node
        self._said = reason

    def why_not(self, node: Node) -> Why:
        """Why Vulkan does not take a node, in edgeq's codes."""
        self._said = ""
        name = plain_name(operator_name(node))
        if self.is_node_supported({}, node):
            return Why("constraint", f"Vulkan takes this {name} alone, but in no partition with its neighbours")
        return _classified(name, self._said)


@contextlib.contextmanager
def _watching() -> Iterator[Handed]:
    """The graphs that are written inside the block. It replaces two names: one thread at a time."""
    build, serialize = vulkan_preprocess.VkGraphBuilder, vulkan_preprocess.serialize_vulkan_graph
    handed: Handed = {}
    programs: list[ExportedProgram] = []

    def building(program: ExportedProgram, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # ExecuTorch is not typed
        programs.append(program)
        return build(program, *args, **options)

    def serializing(*args: Any) -> bytes:  # noqa: ANN401  # the same
        written: bytes = serialize(*args)
        handed[written] = programs[-1]
        return written

    vulkan_preprocess.VkGraphBuilder, vulkan_preprocess.serialize_vulkan_graph = building, serializing
    try:
        yield handed
    finally:
        vulkan_preprocess.VkGraphBuilder, vulkan_preprocess.serialize_vulkan_graph = build, serialize


_WORDS = (
    ("no-kernel", "no operator implementation", "Vulkan has no kernel for {name}"),
    ("dynamic-shape", "no dynamic shape support", "Vulkan needs every shape of {name} beforehand"),
    ("dtype", "dtype", "Vulkan does not take this {name}: {said}"),
    ("constraint", "", "Vulkan does not take this {name}: {said}"),
)
"""Which code ExecuTorch's words come to, the first that fits, and how to tell it."""


def _classified(name: str, said: str) -> Why:
    code, sentence = next((code, sentence) for code, words, sentence in _WORDS if words in said)
    return Why(code, sentence.format(name=name, said=said or "not with these arguments"))


@contextlib.contextmanager
def _without_patterns_that_cannot_match(program: ExportedProgram) -> Iterator[None]:
    """Look for no rotary embeddings in a graph that joins nothing.

    ExecuTorch exports three of them from PyTorch, twice, to look for them,
    which takes longer than all else; each joins the halves that it turned.
    """
    before = copy.copy(fusable_patterns)
    if not any(operator_name(node) in _HALVES_JOIN for node in program.graph.nodes):
        for name, entry in before.items():
            if entry.get_graphs_fn is not None:
                del fusable_patterns[name]
    try:
        yield
    finally:
        fusable_patterns.update(before)
