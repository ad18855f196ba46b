"""What edgeq uses of ExecuTorch's Arm backend. Importing it takes ethos-u-vela and tosa-tools to be installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.quiet import quietly

with quietly():
    import executorch.kernels.quantized  # noqa: F401  # the conversions that a file calls outside of a partition
    from executorch.backends.arm.ethosu import EthosUCompileSpec, EthosUPartitioner
    from executorch.backends.arm.ethosu import backend as ethos_u_backend
    from executorch.exir import to_edge_transform_and_lower

if TYPE_CHECKING:
    from collections.abc import Mapping
    from itertools import count

    from torch.export import ExportedProgram
    from torch.fx import GraphModule, Node

__all__ = [
    "AskedPartitioner",
    "EthosUCompileSpec",
    "ethos_u_backend",
    "to_edge_transform_and_lower",
]


class AskedPartitioner(EthosUPartitioner):  # type: ignore[misc]  # ExecuTorch is not typed
    """Hands the NPU all that Arm's backend takes, and keeps what that says against the nodes that it leaves."""

    def __init__(self, compile_spec: EthosUCompileSpec) -> None:
        super().__init__(compile_spec)
        self._said: dict[Node, str] = {}

    @property
    def refusals(self) -> Mapping[str, str]:
        """The words against each node that was left out, by the node's name."""
        return {node.name: words for node, words in self._said.items()}

    def _tag_module(
        self,
        module: GraphModule,
        containing_program: ExportedProgram,
        reporter: object,
        tag_iterator: count[int] | None = None,
    ) -> set[str]:
        tags: set[str] = super()._tag_module(module, containing_program, reporter, tag_iterator)
        self._said |= getattr(reporter, "_rejected_nodes")  # noqa: B009  # it shows them in a log alone
        return tags
