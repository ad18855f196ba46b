"""Android: a library module for Gradle, with Kotlin code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgeq.errors import AppNameError
from edgeq.mobile.android.packages import EXECUTORCH, ONNXRUNTIME
from edgeq.mobile.releases import dependency as dependency_of
from edgeq.mobile.templates import render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeq.mobile.content import AppModel, Content
    from edgeq.records import Dependency

_PACKAGE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


def package(model: str, wanted: str | None) -> str:
    """A Kotlin package, which is the module's namespace too: com.example.MODEL unless another is ``wanted``."""
    if wanted is None:
        word = re.sub(r"[^a-z0-9]", "", model.lower())
        return f"com.example.{word if word[:1].isalpha() else f'model{word}'}"
    if not _PACKAGE.fullmatch(wanted):
        raise AppNameError("the package", wanted, "is no Kotlin package", "com.example.model")
    return wanted


def resources(content: Content) -> str:
    """Where Gradle takes an app's assets from; a folder of its own keeps them apart from the app's."""
    del content
    return "src/main/assets/edgeq"


def golden_resources(content: Content) -> str:
    """Assets of the instrumented tests."""
    del content
    return "src/androidTest/assets/edgeq"


def dependency(model: AppModel) -> Dependency:
    """The AAR on Maven Central."""
    return dependency_of(model.requires, EXECUTORCH if model.format == "pte" else ONNXRUNTIME)


def files(content: Content) -> Mapping[str, str]:
    """The module: its build file, its manifest, its README."""
    needed = {one.name: one for one in map(dependency, content.models)}
    values = {"content": content, "dependencies": sorted(needed.values(), key=lambda one: one.name)}
    return {path: render(__name__, f"{path}.jinja", **values) for path in ("build.gradle.kts", "README.md")}
