"""A user's project: what ``edgeq.toml`` says."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from edgeq.errors import ConfigError, LabelsError, LimitRangeError, UnknownNameError
from edgeq.input_format import Layout, Pixels
from edgeq.recipe import RECIPES, Recipe, named
from edgeq.records import FORMATS, Bound, Format, Limits, Preprocess, Tolerances
from edgeq.schema import from_data, read_toml

FILE_NAME = "edgeq.toml"

HISTORY_FILE = Path(".edgeq") / "history.db"
"""Where a project keeps what was measured of its builds, unless ``[history]`` says otherwise."""

_CHANNELS = (1, 3)

_RECIPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """One input of the model: ``shape`` with its batch dimension, and a torch dtype's name (integers: token ids)."""

    shape: tuple[int, ...]
    dtype: Literal["float32", "int64", "int32"] = "float32"


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """``[model]``: its name, the function that makes it, and what its classes are called.

    ``labels`` is a list, or the name of a text file with one a line, from
    the project's folder; :func:`load_project` puts what the file holds here.
    They are in the order of the scores of the first output.
    """

    name: str
    factory: str
    inputs: tuple[InputSpec, ...]
    labels: str | tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """``[data]``: the functions that yield the samples, and ``train``: (module, steps) -> None.

    With ``converge``, calibration stops when the ranges no longer move; without it, every sample is read.
    ``files`` are names and patterns (``photos/**``), from the project's folder, of what the functions read through
    libraries that edgeq cannot watch.
    """

    evaluation: str
    calibration: str = ""
    converge: bool = True
    train: str = ""
    metric: Literal["top1"] = "top1"
    files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BuildSection:
    """``[build]``: what is built unless the command line says otherwise."""

    target: str = "rpi4"
    formats: tuple[Format, ...] = FORMATS
    recipes: tuple[str, ...] = ("fp32", "int8-static")


@dataclass(frozen=True, kw_only=True)
class QatSection:
    """``[qat]``: how many optimizer steps the recipe int8-qat trains, and what the train function is given.

    ``learning_rate`` is handed to a function that has a parameter of that
    name; ``seed`` is what torch, numpy and random are seeded with.
    """

    steps: int = 1000
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class RecipeSection:
    """``[recipes.NAME]``: a recipe of the project's own.

    ``base`` is a name of edgeq's with techniques
    (``int8-static+percentile``); ``keep_float`` and ``group_size`` are as in
    :class:`edgeq.recipe.Recipe`.
    """

    base: str
    description: str = ""
    keep_float: tuple[str, ...] = ()
    group_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class PreprocessSection:
    """``[preprocess]``: how the model's input is made from an image: subtract ``mean``, divide by ``std``.

    An app does that, and brings the image to ``layout``; with ``folded`` the
    artifacts do, and take the image's bytes as uint8 in ``layout``. A single
    mean or std is meant for every channel.
    """

    layout: Layout
    mean: tuple[float, ...]
    std: tuple[float, ...]
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class HistorySection:
    """``[history]``: the database that keeps what was measured, instead of the file in the project.

    The variable EDGEQ_HISTORY, which may hold a password, comes before it.
    """

    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Project:
    """The whole of ``edgeq.toml``; ``root`` is the folder it lies in."""

    root: str = ""
    model: ModelSection
    data: DataSection
    build: BuildSection = field(default_factory=BuildSection)
    qat: QatSection = field(default_factory=QatSection)
    preprocess: PreprocessSection | None = None
    limits: Limits = field(default_factory=Limits)
    check: Tolerances = field(default_factory=Tolerances)
    history: HistorySection = field(default_factory=HistorySection)
    recipes: dict[str, RecipeSection] = field(default_factory=dict)

    def own_recipes(self) -> dict[str, Recipe]:
        """The recipes of ``[recipes.NAME]``, by name."""
        return {name: _own_recipe(name, section) for name, section in self.recipes.items()}

    @property
    def pixels(self) -> Pixels | None:
        """The bytes that the artifacts take, where the preprocessing is folded into them."""
        section = self.preprocess
        if section is None or not section.folded:
            return None
        batch, channels, height, width = self.model.inputs[0].shape
        return Pixels(
            layout=section.layout,
            model_shape=(batch, channels, height, width),
            mean=_each(section.mean, channels),
            std=_each(section.std, channels),
        )

    @property
    def left_to_the_app(self) -> Preprocess | None:
        """What an app must do to an image before the artifacts: nothing but the layout where the rest is folded."""
        section = self.preprocess
        if section is None:
            return None
        if not section.folded:
            return Preprocess(layout=section.layout, mean=section.mean, std=section.std)
        return Preprocess(
            layout=section.layout, mean=(0.0,) * len(section.mean), std=(1.0,) * len(section.std), folded=True
        )


def _each(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values


def _own_recipe(name: str, section: RecipeSection) -> Recipe:
    base = named(section.base)
    return replace(
        base,
        name=name,
        description=section.description or base.description,
        keep_float=section.keep_float,
        group_size=section.group_size or base.group_size,
    )


def load_project(path: Path) -> Project:
    """The project in the folder, or the ``edgeq.toml``, at ``path``."""
    file = path if path.suffix == ".toml" else path / FILE_NAME
    if not file.is_file():
        raise ConfigError(
            f"{path} is not a project: there is no {file}",
            hint=f"name a folder with an {FILE_NAME}, such as examples/fashion_mnist",
        )
    data = read_toml(file)
    if "root" in data:
        raise ConfigError(f"{file}: unknown key 'root'", hint="a project's root is the folder of its file")
    project = from_data(Project, {**data, "root": str(file.resolve().parent)}, where=str(file))
    _check(project, file)
    return replace(project, model=replace(project.model, labels=_labels(project, file)))


def _labels(project: Project, file: Path) -> tuple[str, ...]:
    """The names of the classes, read if they stand in a file of their own."""
    said = project.model.labels
    if not isinstance(said, str):
        names, where = said, f"{file}: model.labels"
    else:
        path = Path(project.root) / said
        try:
            names, where = tuple(path.read_text(encoding="utf-8").splitlines()), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise LabelsError(f"{file}: model.labels", f"{path} cannot be read: {error}") from error
        if not names:
            raise LabelsError(where, "it is empty")
    for number, name in enumerate(names, start=1):
        if not name.strip() or not name.isprintable():
            raise LabelsError(where, f"name {number} is {name!r}, which cannot be shown")
    return names


def _check(project: Project, file: Path) -> None:
    """What types cannot say: names that exist, shapes that can be."""
    name = project.model.name
    if not name or name.startswith(".") or any(ch in name for ch in "/\\\0\n"):
        raise ConfigError(
            f"{file}: model.name {name!r} cannot be part of a file's name",
            hint="use letters, digits, dots and dashes",
        )
    if not project.model.inputs:
        raise ConfigError(f"{file}: model.inputs is empty", hint="state each input's shape and dtype")
    for spec in project.model.inputs:
        if not spec.shape or min(spec.shape) < 1:
            raise ConfigError(
                f"{file}: model.inputs: shape {list(spec.shape)} has a dimension below 1",
                hint="give the full static shape with its batch dimension, such as [1, 3, 224, 224]",
            )
        if spec.shape[0] != 1:
            raise ConfigError(
                f"{file}: model.inputs: the batch dimension is {spec.shape[0]}; artifacts for a board take one sample",
                hint=f"write shape = {[1, *spec.shape[1:]]}",
            )
    if project.qat.steps < 1:
        raise ConfigError(f"{file}: qat.steps is {project.qat.steps}", hint="write 1 or more; 1000 is the default")
    if not 0 < project.qat.learning_rate < 1:
        raise ConfigError(
            f"{file}: qat.learning_rate is {project.qat.learning_rate}", hint="write a number between 0 and 1"
        )
    _check_preprocess(project, f"{file}: [preprocess]")
    check_limits(project.limits, where=f"{file}: [limits]")
    check_tolerances(project.check, where=f"{file}: [check]")
    _check_recipes(project, file)
    _check_named_limits(project, file)


def _check_preprocess(project: Project, where: str) -> None:
    """What can be divided by; and, where it is folded, one image that the numbers fit."""
    section = project.preprocess
    if section is None:
        return
    if not all(map(math.isfinite, (*section.mean, *section.std))) or min(section.std, default=1) <= 0:
        raise ConfigError(
            f"{where}: mean {list(section.mean)} and std {list(section.std)} cannot be computed with",
            hint="write numbers, and a std above 0; both in the pixels' own units, from 0 to 255",
        )
    if not section.folded:
        return
    shapes = [(list(spec.shape), spec.dtype) for spec in project.model.inputs]
    (shape, dtype), *others = shapes
    if others or dtype != "float32" or len(shape) != 4 or shape[1] not in _CHANNELS:  # noqa: PLR2004  # (1, channels, height, width)
        told = ", ".join(f"{kind} {sizes}" for sizes, kind in shapes)
        raise ConfigError(
            f"{where}: folded is for models of one image, float32 [1, 3, height, width], of 3 channels or 1; "
            f"this takes {told}",
            hint="leave folded = true out; the app then makes the model's input",
        )
    for name, values in (("mean", section.mean), ("std", section.std)):
        if len(values) not in (1, shape[1]):
            raise ConfigError(
                f"{where}: {name} has {len(values)} numbers for {shape[1]} channels",
                hint="write one for each channel, or a single one",
            )


def check_limits(limits: Limits, *, where: str) -> None:
    """LimitRangeError for what nothing can be held to: NaN, infinity, a share beyond 0 to 1, points beyond 0 to 100.

    ConfigError for no partition.
    """
    for name, value, most in (
        ("max_drop_pp", limits.max_drop_pp, 100.0),
        ("min_int8_mac_share", limits.min_int8_mac_share, 1.0),
        ("min_delegated_mac_share", limits.min_delegated_mac_share, 1.0),
    ):
        if value is not None and not 0 <= value <= most:  # NaN compares as neither
            raise LimitRangeError(where, name, value, most)
    if limits.max_partitions is not None and limits.max_partitions < 1:
        raise ConfigError(
            f"{where}: max_partitions is {limits.max_partitions}",
            hint="write 1 or more: a .pte has a partition for each stretch of its graph that runs in XNNPACK",
        )
    for name in BOUNDS:
        for value in _values(getattr(limits, name)):
            if name == "min_accuracy" and not 0 <= value <= 1:
                raise LimitRangeError(where, name, value, 1.0)
            if not 0 < value < math.inf and name != "min_accuracy":
                raise ConfigError(f"{where}: {name} is {value:g}", hint="write a number above 0")


BOUNDS = ("max_p50_ms", "max_p99_ms", "max_instructions", "max_peak_rss_bytes", "max_size_bytes", "min_accuracy")
"""The limits that may be given for each recipe or artifact."""


def _values(bound: Bound) -> tuple[float, ...]:
    if bound is None:
        return ()
    return tuple(bound.values()) if isinstance(bound, dict) else (bound,)


def _check_named_limits(project: Project, file: Path) -> None:
    """Limits of recipes and artifacts are of ones that can be."""
    recipes = {*RECIPES, *project.recipes, *project.build.recipes}
    artifacts = {f"{project.model.name}.{recipe}.{form}" for recipe in recipes for form in FORMATS}
    for limit in BOUNDS:
        bound = getattr(project.limits, limit)
        for name in bound if isinstance(bound, dict) else ():
            if name not in recipes | artifacts:
                raise UnknownNameError(
                    "recipe or artifact", name, recipes | artifacts, where=f"{file}: [limits]: {limit}"
                )


def check_tolerances(tolerances: Tolerances, *, where: str) -> None:
    """ConfigError for a tolerance that is no number from 0 to 100."""
    for name, value in vars(tolerances).items():
        if not 0 <= value <= 100:  # noqa: PLR2004  # per cent, and percentage points
            raise ConfigError(f"{where}: {name} is {value:g}, not a number from 0 to 100", hint=f"write: {name} = 1.0")


def _check_recipes(project: Project, file: Path) -> None:
    """Names that exist, bases that take what is added to them."""
    own: dict[str, Recipe] = {}
    for name, section in project.recipes.items():
        where = f"{file}: [recipes.{name}]"
        if name in RECIPES or not _RECIPE_NAME.fullmatch(name):
            raise ConfigError(
                f"{where}: {name!r} cannot be the name of a recipe of your own",
                hint="use letters, digits, dots and dashes, and no name of edgeq's",
            )
        try:
            own[name] = _own_recipe(name, section)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None
        if own[name].method == "search":
            raise ConfigError(f"{where}: {section.base!r} is a search", hint="a base says how to quantize: int8-static")
    for recipe in project.build.recipes:
        try:
            named(recipe, own)
        except ConfigError as error:
            raise ConfigError(f"{file}: build.recipes: {error.message}", hint=error.hint) from None
