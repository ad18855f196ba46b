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
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import world
from edgeq.errors import ConfigError
from edgeq.files import try_folder_lock, write_text
from edgeq.project import BuildSection
from edgeq.records import FileFact, Inputs, Manifest
from edgeq.schema import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgeq.stages.planning import Plan
    from edgeq.tracing import Trace

INPUTS = "inputs.json"
_HASHING_THREADS = 2


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """The manifest of a build that is as it would be now, or in words why there is none."""

    manifest: Manifest | None
    why_not: str = ""


def unchanged(plan: Plan, build: Path) -> Reuse:
    """Look whether the build in that folder can be taken as it is."""
    path = build / INPUTS
    started_ns = time.time_ns()
    try:
        text = path.read_bytes()
        then = from_json(Inputs, text, where=str(path))
        manifest = from_json(Manifest, (build / "manifest.json").read_bytes(), where=str(build))
    except (OSError, ConfigError):
        return Reuse(manifest=None)
    if then.unseen:
        return Reuse(manifest=None, why_not=then.unseen[0])
    if change := world.changed(then, request(plan), build.absolute()):
        return Reuse(manifest=None, why_not=change)
    if damaged := _damaged(then, build):
        return Reuse(manifest=None, why_not=f"{build / damaged} is not as it was built")
    _remember(build, text, then, started_ns)
    return Reuse(manifest=manifest)


def unseen(build: Path) -> tuple[str, ...]:
    """Why nobody can tell whether a build that was just made is still up to date; empty if one can."""
    path = build / INPUTS
    return from_json(Inputs, path.read_bytes(), where=str(path)).unseen


def request(plan: Plan) -> dict[str, str]:
    """Fingerprints of what was asked for, by a name for messages."""
    project = dataclasses.replace(plan.project, build=BuildSection())  # the plan holds what became of it
    parts = {
        "the project's edgeq.toml": project,
        "the target": plan.target,
        "the set of recipes": plan.recipes,
        "the set of formats": plan.formats,
        "the number of threads": plan.threads,
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


def _remember(build: Path, text: bytes, then: Inputs, started_ns: int) -> None:
    """Note the times that files have now that were read because those had changed, so that they are read but once."""
    files = tuple(_renewed(one, then.recorded_at_ns) for one in then.files)
    outputs = tuple(_renewed(one, then.recorded_at_ns, within=build) for one in then.outputs)
    if (files, outputs) == (then.files, then.outputs):
        return
    renewed = dataclasses.replace(then, files=files, outputs=outputs, recorded_at_ns=started_ns)
    with try_folder_lock(build) as free, contextlib.suppress(OSError):  # a build that is only read stays as it is
        if free and (build / INPUTS).read_bytes() == text:
            write_text(build / INPUTS, to_json(renewed) + "\n")


def _renewed(then: FileFact, recorded_at_ns: int, *, within: Path | None = None) -> FileFact:
    path = within / then.path if within else Path(then.path)
    if world.is_untouched(then, recorded_at_ns, os.stat(path)):
        return then
    return world.renumbered(then, path)
