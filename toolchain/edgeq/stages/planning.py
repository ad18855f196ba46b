"""What a build is to hold: decided before anything heavy is done or imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.errors import ConfigError, NoRuntimeError
from edgeq.project import Project
from edgeq.recipe import Recipe, named
from edgeq.records import Format
from edgeq.target import Target

if TYPE_CHECKING:
    from collections.abc import Sequence


_MOST_THREADS = 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to build: all that the command line, the project's file and the target's file say of it.

    ``threads`` is what torch and the runtimes compute with. With two ``jobs``
    or more, artifacts are scored in a process beside the one that makes them.
    """

    project: Project
    target: Target
    recipes: tuple[Recipe, ...]
    formats: tuple[Format, ...]
    threads: int
    jobs: int


def threads_for(jobs: int) -> int:
    """Threads to compute with: one core is left for the process that scores, and more than four gain little."""
    return max(1, min(_MOST_THREADS, jobs - 1))


def plan(project: Project, target: Target, *, recipes: Sequence[str], formats: Sequence[Format], jobs: int) -> Plan:
    """Resolve names; the fp32 twin always comes first, as every other recipe is compared with it.

    UnknownNameError for a recipe, ConfigError without calibration data,
    NoRuntimeError for a format that nothing on the target takes.
    """
    wanted = tuple(dict.fromkeys(formats or project.build.formats))
    if any(form not in target.formats for form in wanted):
        raise NoRuntimeError("executorch", target.triple, target=target.name)
    own = project.own_recipes()
    chosen = [named(name, own) for name in dict.fromkeys(("fp32", *(recipes or project.build.recipes)))]
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
    )
