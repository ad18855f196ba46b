"""Into apps: what goes into one (``content``), and for each platform the code around it.

A platform is a package of its own: it says where things lie, what brings the
runtime, and what the text files are. :data:`PLATFORMS` is all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from edgeq.mobile import android, ios

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeq.mobile.content import AppModel, Content
    from edgeq.records import DelegateName, Dependency

PlatformName = Literal["android", "ios"]


DELEGATES: Mapping[PlatformName, tuple[DelegateName, ...]] = {
    "android": ("vulkan", "vulkan-fp16"),
    "ios": ("coreml", "coreml-fp32"),
}
"""What may run a .pte on each platform beside the CPU."""


class Platform(Protocol):
    """What a platform has to say; a package with these functions is one."""

    def package(self, model: str, wanted: str | None) -> str:
        """The name that the app imports: ``wanted`` if it can be one (else AppNameError), or a default."""

    def resources(self, content: Content) -> str:
        """The folder of the model files, relative to the exported one."""

    def golden_resources(self, content: Content) -> str:
        """The folder of what only the app's tests need."""

    def dependency(self, model: AppModel) -> Dependency:
        """What brings the runtime of that file."""

    def files(self, content: Content) -> Mapping[str, str]:
        """Every text file by its relative path: build files, code, tests, a README."""


PLATFORMS: Mapping[PlatformName, Platform] = {"android": android, "ios": ios}
