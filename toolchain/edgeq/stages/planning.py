"""What a build is to hold: decided before anything heavy is done or imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.errors import ConfigError, MicrocontrollerRecipeError, NoOnnxError, NoRuntimeError
from edgeq.project import Project
from edgeq.recipe import Recipe, named
from edgeq.records import Format
from edgeq.target import Target
from edgeq.vela import require_packages

if TYPE_CHECKING:
    from collections.abc import Sequence


_MOST_THREADS = 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to build: all that the command line, the project's file and the target's file say of it.

    ``threads`` is what torch and the runtimes compute with. With two ``jobs``
    or more, artifacts are scored in a process beside the one that makes them.
    ``left_out`` says in sentences what edgeq.toml names and this target cannot have.
    """

    project: Project
    target: Target
    recipes: tuple[Recipe, ...]
    formats: tuple[Format, ...]
    threads: int
    jobs: int
    left_out: tuple[str, ...] = ()


def threads_for(jobs: int) -> int:
    """Threads to compute with: one core is left for the process that scores, and more than four gain little."""
    return max(1, min(_MOST_THREADS, jobs - 1))


def plan(project: Project, target: Target, *, recipes: Sequence[str], formats: Sequence[Format], jobs: int) -> Plan:
    """Resolve names; the fp32 twin always comes first, as every other recipe is compared with it.

    For a microcontroller an ONNX file and the recipes that it cannot have are
    errors where they were asked for, and left out where edgeq.toml lists
    them for all targets; MissingArmToolsError without the compiler for it.
    UnknownNameError for a recipe, ConfigError without calibration data,
    NoRuntimeError for a format that nothing on the target takes.
    """
    own = project.own_recipes()
    chosen = [named(name, own) for name in dict.fromkeys(("fp32", *(recipes or project.build.recipes)))]
    wanted = tuple(dict.fromkeys(formats or project.build.formats))
    left_out: tuple[str, ...] = ()
    if target.bare_metal:
        require_packages(target)
        chosen, wanted, left_out = _for_microcontroller(
            target, chosen, wanted, asked=bool(recipes), asked_formats=bool(formats)
        )
    if any(form not in target.formats for form in wanted):
        raise NoRuntimeError("executorch", target.triple, target=target.name)
    if any(recipe.needs_calibration for recipe in chosen) and not project.data.calibration:
        raise ConfigError(
            f"{project.root}: [data] calibration is missing",
            hint='static quantization observes real inputs: calibration = "data.py:calibration"',
        )
    return Plan(
        project=project,
        target=target,
        recipes=tuple(chosen),
        formats=wanted,
        threads=threads_for(jobs),
        jobs=jobs,
        left_out=left_out,
    )


def _for_microcontroller(
    target: Target, recipes: list[Recipe], formats: tuple[Format, ...], *, asked: bool, asked_formats: bool
) -> tuple[list[Recipe], tuple[Format, ...], tuple[str, ...]]:
    """The recipes and formats that ``target`` can have, and a sentence for each that is left out."""
    left_out = []
    kept = []
    for recipe in recipes:
        reason = _not_for_microcontroller(recipe)
        if reason and asked:
            raise MicrocontrollerRecipeError(recipe.name, target.name, reason)
        if reason:
            left_out.append(f"{recipe.name} was not built for {target.name}: {reason}")
        else:
            kept.append(recipe)
    if "onnx" in formats:
        if asked_formats or formats == ("onnx",):
            raise NoOnnxError(target.name)
        left_out.append(f"no .onnx was built: {target.name} has no ONNX Runtime")
    return kept, tuple(form for form in formats if form != "onnx"), tuple(left_out)


def _not_for_microcontroller(recipe: Recipe) -> str:
    """Why kernels that know static int8 alone cannot have that recipe; empty if they can."""
    if recipe.method == "search" or recipe.name == "int8-fastest":
        return "it is found by trials, which cannot run there from here"
    if recipe.method in ("dynamic", "weight-only"):
        return "it computes scales, or everything, in float while the model runs"
    return ""
