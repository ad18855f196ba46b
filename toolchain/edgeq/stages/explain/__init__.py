"""Why an artifact is what it is: what stayed float, what is not delegated, and which layers lose accuracy.

Everything is read from the records of a build; nothing is computed anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.errors import NoNumericsError
from edgeq.files import write_text
from edgeq.records import Artifact, Check, Manifest, Nodes, Numerics
from edgeq.schema import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from edgeq.records import Report

__all__ = ["Explained", "artifacts_of", "explain", "nodes_file", "numerics_file", "write_nodes", "write_numerics"]

FP32 = "fp32"


@dataclass(frozen=True, kw_only=True)
class InstructionCost:
    """What an inference of an artifact retires on an emulated board, and the fewest that its MACs take there."""

    artifact: str
    device: str
    instructions: int
    least_instructions: int
    limit_share: float


@dataclass(frozen=True, kw_only=True)
class Explained:
    """The artifacts that were asked for; ``numerics`` of each quantized recipe among them, if asked for.

    ``nodes`` are by the artifact's name. An older build keeps none: what its
    manifest says of an artifact is then all there is. ``costs`` are those
    that were counted so far, ``open_drops`` the limits of a drop that
    nobody can tell yet.
    """

    build: str
    artifacts: tuple[Artifact, ...]
    fp32: tuple[Artifact, ...]
    nodes: dict[str, Nodes]
    numerics: tuple[Numerics, ...] = ()
    costs: tuple[InstructionCost, ...] = ()
    open_drops: tuple[Check, ...] = ()


def explain(build: Path, manifest: Manifest, report: Report, *, artifact: str | None, numerics: bool) -> Explained:
    """Gather what the build's records say of one artifact, or of all; ``report`` of what was measured so far.

    ``artifact`` is the name of a file or of a recipe. UnknownNameError if
    there is none; NoNumericsError if ``numerics`` are asked for and the
    build holds none of what was named.
    """
    chosen = artifacts_of(manifest, artifact)
    names = {one.name for one in chosen}
    read = []
    if numerics:
        recipes = list(dict.fromkeys(one.recipe for one in chosen))
        read = [_read(build, recipe) for recipe in recipes if numerics_file(build, recipe).is_file()]
        if not read:
            raise NoNumericsError(build, recipes)
    return Explained(
        build=str(build),
        artifacts=chosen,
        fp32=tuple(one for one in manifest.artifacts if one.recipe == FP32),
        nodes={one.name: _read_nodes(build, one.name) for one in chosen if nodes_file(build, one.name).is_file()},
        numerics=tuple(read),
        costs=tuple(_costs(report, names)),
        open_drops=tuple(check for check in report.checks if check.artifact in names and _is_open_drop(check)),
    )


def _is_open_drop(check: Check) -> bool:
    """Whether a drop was measured on a device, and nobody can tell whether it keeps the limit."""
    return check.limit == "max_drop_pp" and check.device is not None and check.outcome == "cannot tell"


def _costs(report: Report, names: Collection[str]) -> Iterator[InstructionCost]:
    for row in report.rows:
        least, share = row.least_instructions, row.instruction_limit_share
        if row.artifact in names and row.device and row.instructions and least is not None and share is not None:
            yield InstructionCost(
                artifact=row.artifact,
                device=row.device,
                instructions=row.instructions,
                least_instructions=least,
                limit_share=share,
            )


def artifacts_of(manifest: Manifest, name: str | None) -> tuple[Artifact, ...]:
    """The artifact, or those of the recipe, called ``name``; without a name all that are quantized, or all."""
    if name is None:
        quantized = tuple(one for one in manifest.artifacts if one.recipe != FP32)
        return quantized or manifest.artifacts
    return manifest.chosen([name])


def numerics_file(build: Path, recipe: str) -> Path:
    """Where the numerics of a recipe lie in a build."""
    return build / "numerics" / f"{recipe}.json"


def write_numerics(build: Path, numerics: Numerics) -> None:
    """Put a record where :func:`explain` reads it."""
    write_text(numerics_file(build, numerics.recipe), to_json(numerics, indent=2) + "\n")


def nodes_file(build: Path, artifact: str) -> Path:
    """Where the nodes of an artifact lie in a build."""
    return build / "nodes" / f"{artifact}.json"


def write_nodes(build: Path, artifact: str, nodes: Nodes) -> None:
    """Put a record where :func:`explain` reads it."""
    write_text(nodes_file(build, artifact), to_json(nodes) + "\n")


def _read_nodes(build: Path, artifact: str) -> Nodes:
    file = nodes_file(build, artifact)
    return from_json(Nodes, file.read_bytes(), where=str(file))


def _read(build: Path, recipe: str) -> Numerics:
    file = numerics_file(build, recipe)
    return from_json(Numerics, file.read_bytes(), where=str(file))
