"""What a delegate has to say; a module with these names is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from torch.export import ExportedProgram

    from edgeq.lower.delegates.reference import Handed
    from edgeq.lower.reasons import Why


class Backend(Protocol):
    """A delegate."""

    BACKEND: str
    """What its runtime is called in a .pte."""
    NAME: str
    """What people call it."""
    SYSTEM: str
    """The oldest system that runs its files."""
    UNCHECKED: tuple[str, ...]
    """What nobody on this machine can know of a file."""

    def lowering(self, program: ExportedProgram) -> AbstractContextManager[Handed]:
        """What stands around a lowering, and the graphs of it that can be run in PyTorch.

        It replaces functions of libraries: one thread at a time.
        """

    def partitioner(self, refusals: dict[str, Why], *, half: bool) -> Any:  # noqa: ANN401  # ExecuTorch is not typed
        """Hands over what there are kernels for, in float16 if ``half``; says of each other node why not."""

    def kernels(self, data: bytes, named: Mapping[str, int]) -> Counter[str]:
        """The kernels in what the delegate was given, read back; ValueError if it is damaged.

        ``named`` are the sizes in bytes of the tensors beside it.
        """
