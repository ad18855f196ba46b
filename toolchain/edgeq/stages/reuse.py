"""Whether the build that is there is the one that would be made now: then nothing needs to be done.

The build in its place is the cache. It holds a record of all that it
depended on (``inputs.json``, :class:`edgeq.records.Inputs`), which takes its
place together with the rest or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import world
from edgeq.errors import ConfigError, CorruptArtifactError, LabelsError
from edgeq.files import atomic_folder, cache_dir, try_folder_lock, write_bytes, write_text
from edgeq.project import BuildSection, HistorySection
from edgeq.records import FORMATS, Inputs, Limits, Manifest, Tolerances
from edgeq.schema import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeq.project import Project
    from edgeq.records import TensorSpec
    from edgeq.stages.planning import Plan
    from edgeq.tracing import Trace

INPUTS = "inputs.json"
MANIFEST = "manifest.json"
_PROGRAMS = "programs"
_HASHING_THREADS = 2


MADE_ANEW = frozenset(
    {
        MANIFEST, "target.json", INPUTS, "evaluation", "golden", "numerics", "nodes", "operators", _PROGRAMS,
        "parity.json", "report.md", "report.html", "report.json", "junit.xml", "check.md", "check.json", "check.xml",
        "origin.json",
    }
)  # fmt: skip
"""What a new build in the same place does not take over, beside the artifacts: it writes these itself, or they are
views of what the older one held. Rows of measurements name the sha256 of what they measured, and are kept."""


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """The manifest of a build that is as it would be now, or in words why there is none."""

    manifest: Manifest | None
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """A build of which every fact holds: its record as read at ``read_ns``, as text too, and its manifest."""

    text: bytes
    then: Inputs
    manifest: Manifest
    read_ns: int


def program_file(recipe: str) -> str:
    """Where a build keeps what the .pte of a recipe was lowered from, relative to it."""
    return f"{_PROGRAMS}/{recipe}.pt2"


def unchanged(plan: Plan, build: Path) -> Reuse:
    """Look whether the build in that folder can be taken as it is; other limits or labels alone are written into it."""
    found = _standing(plan, build)
    if isinstance(found, str):
        return Reuse(manifest=None, why_not=found)
    renewed = dataclasses.replace(
        found.manifest,
        limits=plan.project.limits,
        tolerances=plan.project.check,
        labels=labels(plan.project, found.manifest.artifacts[0].outputs),
    )
    if not _remember(build, found, renewed) and renewed != found.manifest:
        return Reuse(manifest=None, why_not=f"{build} cannot be given the new limits or labels")
    return Reuse(manifest=renewed)


def labels(project: Project, outputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """What the project calls the classes; LabelsError unless that is one name for each score of the first output."""
    names, shape = tuple(project.model.labels), outputs[0].shape
    classes = shape[-1] if shape else 1
    if names and len(names) != classes:
        raise LabelsError(f"{project.model.name}: model.labels", f"{len(names)} names for {classes} classes")
    return names


def _standing(plan: Plan, build: Path) -> _Standing | str:
    """The build in that folder if it is up to date, else why it is not (nothing to say if there is none)."""
    path = build / INPUTS
    read_ns = time.time_ns()
    try:
        text = path.read_bytes()
        then = from_json(Inputs, text, where=str(path))
        manifest = from_json(Manifest, (build / MANIFEST).read_bytes(), where=str(build))
    except (OSError, ConfigError):
        return ""
    if then.unseen:
        return then.unseen[0]
    if change := world.changed(then, request(plan), build.absolute()):
        return change
    if damaged := _damaged(then, build):
        return f"{build / damaged} is not as it was built"
    return _Standing(text=text, then=then, manifest=manifest, read_ns=read_ns)


def copied(plan: Plan, out: Path) -> Reuse:
    """Take a build of the same that lies in another folder, if this machine remembers one and it is up to date.

    A folder that is neither a build nor empty is left alone.
    """
    note = _note(plan)
    try:
        other = Path(note.read_text(encoding="utf-8"))
    except OSError:
        return Reuse(manifest=None)
    if other == out.absolute() or not is_replaceable(out):
        return Reuse(manifest=None)
    found = _standing(plan, other)
    if isinstance(found, str):
        return Reuse(manifest=None)
    try:
        with atomic_folder(out) as folder:
            _copy(found, other, folder)
            take_over(out, folder, found.manifest.model)
    except (FileNotFoundError, CorruptArtifactError):  # another edgeq has replaced it meanwhile
        return Reuse(manifest=None)
    return unchanged(plan, out)


def _copy(found: _Standing, build: Path, folder: Path) -> None:
    """Copy what a build itself has written; CorruptArtifactError if that is not what was found."""
    for one in found.then.outputs:
        (folder / one.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(build / one.path, folder / one.path)
    write_bytes(folder / INPUTS, found.text)
    if damaged := _damaged(found.then, folder):
        raise CorruptArtifactError(build / damaged, "changed while it was copied")


def is_replaceable(out: Path) -> bool:
    """Whether a build may be put there: nothing is there yet, an empty folder, or a build."""
    return not out.exists() or (out / MANIFEST).is_file() or (out.is_dir() and next(out.iterdir(), None) is None)


def take_over(old: Path, new: Path, model: str) -> None:
    """Copy what outlives a rebuild from an older build at the same place: measurements, and what a person put there."""
    for item in old.iterdir() if old.is_dir() else ():
        is_artifact = item.name.startswith(f"{model}.") and item.suffix.removeprefix(".") in FORMATS
        if item.name in MADE_ANEW or is_artifact:
            continue
        if item.is_dir():
            shutil.copytree(item, new / item.name, symlinks=True)
        else:
            shutil.copy2(item, new / item.name, follow_symlinks=False)


def remember_place(plan: Plan, out: Path) -> None:
    """Note where a build of this plan lies, for one that is to lie elsewhere."""
    write_text(_note(plan), str(out.absolute()))


def _note(plan: Plan) -> Path:
    asked = {"root": plan.project.root, **request(plan)}
    return cache_dir() / "builds" / hashlib.sha256(to_json(asked).encode()).hexdigest()


def unseen(build: Path) -> tuple[str, ...]:
    """Why nobody can tell whether a build that was just made is still up to date; empty if one can."""
    path = build / INPUTS
    return from_json(Inputs, path.read_bytes(), where=str(path)).unseen


def request(plan: Plan) -> dict[str, str]:
    """Fingerprints of what was asked for, by a name for messages."""
    # The plan holds what became of [build]; limits decide what a search chooses, and nothing else that is built; labels
    # are only names.
    project = dataclasses.replace(
        plan.project,
        model=dataclasses.replace(plan.project.model, labels=()),
        build=BuildSection(),
        limits=Limits(),
        check=Tolerances(),
        history=HistorySection(),
    )
    searches = any(recipe.method == "search" for recipe in plan.recipes)
    parts = {
        "the project's edgeq.toml": project,
        "the target": plan.target,
        "the set of recipes": plan.recipes,
        "the set of formats": plan.formats,
        "the number of threads": plan.threads,
        "what a search must keep to": plan.project.limits if searches else None,
    }
    return {name: hashlib.sha256(to_json(part).encode()).hexdigest() for name, part in parts.items()}


def keep_inputs(plan: Plan, trace: Trace, folder: Path, *, unrepeatable: Iterable[str]) -> Inputs:
    """Write what a build depended on into its ``folder``, when everything else is there."""
    root = Path(plan.project.root)
    functions = (plan.project.model.factory, *_data_functions(plan))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(_HASHING_THREADS) as pool:
        outputs = tuple(pool.map(lambda path: world.fact(path, within=folder), files))
    inputs = trace.inputs(
        request(plan),
        outputs=outputs,
        folders=tuple(dict.fromkeys(str((root / one).parent) for one in functions if ".py:" in one)),
        patterns=tuple(str(root / pattern) for pattern in plan.project.data.files),
        unrepeatable=tuple(unrepeatable),
    )
    write_text(folder / INPUTS, to_json(inputs) + "\n")
    return inputs


def _data_functions(plan: Plan) -> tuple[str, ...]:
    data = plan.project.data
    return (data.evaluation, data.calibration, data.train)


def _damaged(then: Inputs, build: Path) -> str:
    """The first of the build's own files that is not as it was; empty if all are."""
    with ThreadPoolExecutor(_HASHING_THREADS) as pool:
        whole = pool.map(lambda one: world.holds(one, then.recorded_at_ns, within=build), then.outputs)
        return next((one.path for one, holds in zip(then.outputs, whole, strict=True) if not holds), "")


def _remember(build: Path, found: _Standing, manifest: Manifest) -> bool:
    """Bring a build that was found up to date on the latest state, and say whether it is.

    That is the manifest, whose limits may be new, and the times of files that
    were read because those had changed, so that they are read but once.
    """
    path, then = build / MANIFEST, found.then
    is_told = path.read_bytes() == manifest_text(manifest).encode()
    files = {one: Path(one.path) for one in then.files}
    outputs = {one: build / one.path for one in then.outputs}
    if is_told and all(
        world.is_untouched(one, then.recorded_at_ns, os.stat(place)) for one, place in (files | outputs).items()
    ):
        return True
    with try_folder_lock(build) as free, contextlib.suppress(OSError):  # a build that is only read stays as it is
        if free and (build / INPUTS).read_bytes() == found.text:
            if not is_told:
                write_text(path, manifest_text(manifest))
            renewed = dataclasses.replace(
                then,
                files=tuple(world.renumbered(one, place) for one, place in files.items()),
                outputs=tuple(
                    world.fact(place, within=build) if place == path else world.renumbered(one, place)
                    for one, place in outputs.items()
                ),
                recorded_at_ns=found.read_ns,
            )
            write_text(build / INPUTS, to_json(renewed) + "\n")
            return True
    return False


def manifest_text(manifest: Manifest) -> str:
    """A manifest as it is written into a build."""
    return to_json(manifest, indent=2) + "\n"
