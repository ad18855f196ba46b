"""iOS: a Swift package, its library and its tests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.errors import AppNameError
from edgeq.mobile.content import IMAGES, AppModel, type_name
from edgeq.mobile.ios import swift
from edgeq.mobile.ios.packages import EXECUTORCH, SwiftPackage, package_of, products
from edgeq.mobile.names import camel, unlike
from edgeq.mobile.releases import dependency as dependency_of
from edgeq.mobile.templates import render
from edgeq.records import Dependency

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgeq.mobile.content import Content


_FILTERS: Mapping[str, Callable[..., str]] = {"quoted": swift.quoted, "bits": swift.float_bits}


@dataclass(frozen=True, kw_only=True)
class _Runtime:
    """A package that the exported one depends on, and the files that it runs."""

    package: SwiftPackage
    dependency: Dependency
    products: tuple[str, ...]
    cases: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _File:
    """A model file and the case that stands for it in the code."""

    case: str
    model: AppModel


def package(model: str, wanted: str | None) -> str:
    """The Swift module: the class's name with ``Model`` behind it, unless another is ``wanted``."""
    class_name = type_name(model)
    name = f"{class_name}Model" if wanted is None else wanted
    if problem := swift.module_problem(name, class_name):
        raise AppNameError("the package", name, problem, f"{class_name}Model")
    return name


def resources(content: Content) -> str:
    """Beside the code of the module: SwiftPM bundles them with it."""
    return f"Sources/{content.package}/Resources"


def golden_resources(content: Content) -> str:
    """Beside the tests, so that no app ships them."""
    return f"Tests/{content.package}Tests/Resources"


def dependency(model: AppModel) -> Dependency:
    """The Swift package of the file's runtime."""
    return dependency_of(model.requires, package_of(model).releases)


def files(content: Content) -> Mapping[str, str]:
    """The whole package but for its resources."""
    source, tests = f"Sources/{content.package}", f"Tests/{content.package}Tests"
    written = _cases(content)
    runtimes = _runtimes(written)
    values = {
        "content": content,
        "module": content.package,
        "files": written,
        "runtimes": runtimes,
        "classes": _classes(content),
        "images_file": IMAGES,
        "keeps_all": any(one.package is EXECUTORCH for one in runtimes),
        "any_golden": any(one.vectors for one in content.models),
    }
    places = {
        "Package.swift": "Package.swift",
        "README.md": "README.md",
        "Model.swift": f"{source}/{content.type_name}.swift",
        "TensorValues.swift": f"{source}/TensorValues.swift",
        **{f"{one.package.engine}.swift": f"{source}/{one.package.engine}.swift" for one in runtimes},
        "GoldenTests.swift": f"{tests}/GoldenTests.swift",
        "VectorFile.swift": f"{tests}/VectorFile.swift",
        "VectorFileTests.swift": f"{tests}/VectorFileTests.swift",
    }
    if content.image is not None:
        places["Pixels.swift"] = f"{source}/Pixels.swift"
        places["Preprocessing.swift"] = f"{source}/Preprocessing.swift"
        places["PreprocessingTests.swift"] = f"{tests}/PreprocessingTests.swift"
    if values["classes"]:
        places["Prediction.swift"] = f"{source}/Prediction.swift"
        places["PredictionTests.swift"] = f"{tests}/PredictionTests.swift"
    return {
        place: render(__name__, f"{template}.jinja", filters=_FILTERS, **values) for template, place in places.items()
    }


def _cases(content: Content) -> tuple[_File, ...]:
    """Each model file, its case called like the file without the model's name in front."""
    short = (one.file.removeprefix(f"{content.manifest.model}.") for one in content.models)
    cases = unlike(map(camel, short))
    return tuple(_File(case=case, model=one) for case, one in zip(cases, content.models, strict=True))


def _runtimes(written: tuple[_File, ...]) -> tuple[_Runtime, ...]:
    """Each package once, with all that the files need of it."""
    found = []
    for one in {package_of(file.model).identity: package_of(file.model) for file in written}.values():
        mine = [file for file in written if package_of(file.model) is one]
        needed = dict.fromkeys(product for file in mine for product in products(file.model))
        found.append(
            _Runtime(
                package=one,
                dependency=dependency(mine[0].model),
                products=tuple(needed),
                cases=tuple(file.case for file in mine),
            )
        )
    return tuple(found)


def _classes(content: Content) -> int:
    """How many classes the first output has a score for; 0 if it is not one score for each class."""
    first = content.outputs[0]
    scores = math.prod(first.shape)
    is_scores = first.dtype == "float32" and scores == max(first.shape, default=0) > 1
    return scores if is_scores and (content.labels or content.manifest.evaluation.metric == "top1") else 0
