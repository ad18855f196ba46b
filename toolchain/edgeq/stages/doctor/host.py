"""This machine: the packages and programs that edgeq needs, and what for."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.version import InvalidVersion

from edgeq import runner
from edgeq.device import board
from edgeq.device.facts import meminfo_bytes
from edgeq.device.inventory import BOARD, LOCAL
from edgeq.errors import MissingSourcesError
from edgeq.files import cache_dir
from edgeq.installed import version_of
from edgeq.stages.doctor.finding import Finding, ok, problem, unknown, warning
from edgeq.triple import KINDS, TRIPLES, named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from edgeq.triple import Triple

_PARTS = {"": "", "executorch": ".pte files", "onnx": ".onnx files", "report": "report.html"}
"""The extras that a doctor looks at, "" being edgeq itself, and what cannot be made without."""

_LEAST_CACHE_BYTES = 200 << 20
_ROOMY_CACHE_BYTES = 2 << 30
_ROOMY_MEMORY_BYTES = 2 << 30
_VERSION_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """What this machine has: Python packages and programs with their versions ("" if absent), and its cache."""

    system: str
    machine: str
    python: str
    packages: dict[str, str]
    programs: dict[str, str]
    cache: str
    cache_free_bytes: int | None
    available_bytes: int | None


def examine(device: str | None, *, boards: Triple = TRIPLES[0]) -> tuple[HostFacts, tuple[Finding, ...]]:
    """Look at this machine; what ``device`` needs here and is missing is a problem, anything else that is a warning.

    ``boards`` is the kind of board that runners will be needed for.
    """
    facts = _facts(boards)
    findings = (
        *_python(facts),
        *_runner(facts, boards, "a board", needed=device != LOCAL),
        *_local_runner(facts, device, boards),
        *_emulation(facts, needed=device is not None and device.partition(":")[0] == BOARD),
        *_ssh(facts),
        *_cache(facts),
        *_memory(facts),
    )
    return facts, findings


def _facts(boards: Triple) -> HostFacts:
    triples = (boards, f"{platform.machine()}-linux-gnu")
    programs = [program for triple in triples if triple in TRIPLES for program, _ in runner.build_tools(triple)]
    programs += [program for program, _ in board.PROGRAMS] + ["apt-get", "ssh"]
    cache = cache_dir()
    try:
        meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        meminfo = ""
    return HostFacts(
        system=platform.platform(),
        machine=platform.machine(),
        python=platform.python_version(),
        packages={one.name: version_of(one.name) for extra in _PARTS for one in _requirements(extra)},
        programs={program: _version(program) for program in dict.fromkeys(programs)},
        cache=str(cache),
        cache_free_bytes=shutil.disk_usage(_existing(cache)).free,
        available_bytes=meminfo_bytes(meminfo, "MemAvailable"),
    )


def _requirements(extra: str) -> list[Requirement]:
    """The packages that an extra adds to those that edgeq always needs, which are the extra "".

    None if edgeq is run from its sources alone.
    """
    try:
        lines = importlib.metadata.requires("edgeq") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    always = [one for one in map(Requirement, lines) if _holds(one, "")]
    return [one for one in map(Requirement, lines) if _holds(one, extra) and one not in always] if extra else always


def _holds(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _version(program: str) -> str:
    """The first version number that a program tells of itself, "?" if it tells none, "" if it is not there."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, "-V" if program == "ssh" else "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_VERSION_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    # Packagers put their own version in brackets before the program's: "g++ (Debian 12.2.0-14) 12.2.0".
    said = re.sub(r"\([^)]*\)", "", done.stdout or done.stderr)
    found = re.search(r"\d+(?:\.\d+)+\w*", said)
    return found[0] if found else "?"


def _python(facts: HostFacts) -> Iterator[Finding]:
    yield ok("host.python", f"Python {facts.python} on {facts.system}")
    if not facts.packages:
        yield warning(
            "host.package",
            "edgeq is not installed here, so nothing says which packages it needs",
            "pip install -e . in its sources; scripts/setup.sh makes a whole environment",
        )
        return
    for extra in _PARTS:
        yield from _part(extra, facts.packages)


def _part(extra: str, packages: dict[str, str]) -> Iterator[Finding]:
    """Whether the packages of an extra, or of edgeq itself (""), are here in versions that do."""
    requirements = _requirements(extra)
    wrong = {one.name: str(one.specifier) for one in requirements if not _fits(packages[one.name], one)}
    absent = [name for name in wrong if not packages[name]]
    if extra and absent:
        yield warning(
            "host.package",
            f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed: {_PARTS[extra]} cannot be made",
            f"pip install 'edgeq[{extra}]'",
        )
        wrong = {name: wanted for name, wanted in wrong.items() if name not in absent}
    for name, wanted in wrong.items():
        yield problem(
            "host.package",
            f"{name} is {packages[name] or 'not installed'}, and edgeq needs {wanted or 'it'}",
            f'pip install "{name}{wanted}"; scripts/setup.sh makes a whole environment',
        )
    if not wrong and not (extra and absent):
        versions = ", ".join(f"{one.name} {packages[one.name]}" for one in requirements)
        yield ok("host.package", f"all Python packages of {f'edgeq[{extra}]' if extra else 'edgeq'} fit: {versions}")


def _fits(version: str, requirement: Requirement) -> bool:
    """Whether that version will do, "" being none; a local suffix such as +cpu does not count."""
    try:
        return bool(version) and requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _local_runner(facts: HostFacts, device: str | None, boards: Triple) -> Iterator[Finding]:
    """The runner of `--device local`, where that is another one than the boards'."""
    triple = f"{facts.machine}-linux-gnu"
    if triple == boards:
        return
    if triple not in TRIPLES:
        severity = problem if device == LOCAL else warning
        yield severity("host.runner", f"there is no runner for {facts.machine}", "measure on a board with --device")
        return
    yield from _runner(facts, triple, "`--device local`", needed=device == LOCAL)


def _runner(facts: HostFacts, triple: str, what: str, *, needed: bool) -> Iterator[Finding]:
    engines = KINDS[named(triple)].engines
    try:
        if all(runner.is_built(engine, triple) for engine in engines):
            yield ok("host.runner", f"the runners of {what} ({triple}) are built")
            return
    except MissingSourcesError as error:
        yield (problem if needed else warning)("host.runner", error.message, error.hint)
        return
    came_along = all(runner.came_along(engine, triple) for engine in engines)
    tools = runner.build_tools(triple)
    missing = [(program, package) for program, package in tools if not facts.programs[program]]
    if missing and not came_along:
        yield _missing("host.runner", missing, f"building the runner of {what}, which is not built yet,", severe=needed)
    elif importlib.util.find_spec("pip") is None:
        yield (problem if needed else warning)(
            "host.runner",
            f"the runner of {what} ({triple}) lacks its runtime, and pip, which fetches it, is not there",
            f"{sys.executable} -m ensurepip, or sudo apt-get install python3-pip",
        )
    elif came_along:
        yield ok("host.runner", f"the runner of {what} ({triple}) came with edgeq; pip fetches its runtime when needed")
    else:
        with_what = ", ".join(f"{program} {facts.programs[program]}" for program, _ in tools)
        yield ok("host.runner", f"the runner of {what} ({triple}) will be built when it is needed, with {with_what}")


def _emulation(facts: HostFacts, *, needed: bool) -> Iterator[Finding]:
    missing = [(program, package) for program, package in board.PROGRAMS if not facts.programs[program]]
    if missing:
        yield _missing("host.emulation", missing, "an emulated board", severe=needed)
        return
    qemu, _ = board.PROGRAMS[0]
    yield ok("host.emulation", f"emulated boards can run: {qemu} {facts.programs[qemu]}")
    if not facts.programs["apt-get"] and not (cache_dir() / "board-images").is_dir():
        yield warning(
            "host.apt",
            "apt-get is not there, which fetches the Debian packages of an emulated board",
            "run edgeq on Debian or Ubuntu once and keep its cache, or measure on a board with --device",
        )


def _missing(code: str, missing: Iterable[tuple[str, str]], what: str, *, severe: bool) -> Finding:
    missing = list(missing)
    programs, packages = (" ".join(dict.fromkeys(names)) for names in zip(*missing, strict=True))
    return (problem if severe else warning)(
        code,
        f"{programs.replace(' ', ', ')} {'is' if len(missing) == 1 else 'are'} not installed; {what} needs "
        f"{'it' if len(missing) == 1 else 'them'}",
        f"sudo apt-get install {packages}",
    )


def _ssh(facts: HostFacts) -> Iterator[Finding]:
    if facts.programs["ssh"]:
        yield ok("host.ssh", f"ssh {facts.programs['ssh']} for edgeq board ssh")
    else:
        yield _missing("host.ssh", [("ssh", "openssh-client")], "edgeq board ssh, and nothing else,", severe=False)


def _cache(facts: HostFacts) -> Iterator[Finding]:
    existing = _existing(Path(facts.cache))
    elsewhere = "set EDGEQ_CACHE to a folder on a larger disk that you may write"
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        yield problem("host.cache", f"the cache {facts.cache} cannot be written", elsewhere)
        return
    free = facts.cache_free_bytes or 0
    text = f"{free / 1e9:.1f} GB are free for the cache {facts.cache}"
    if free < _LEAST_CACHE_BYTES:
        yield problem("host.cache", text, elsewhere)
    elif free < _ROOMY_CACHE_BYTES:
        yield warning("host.cache", f"only {text}", elsewhere)
    else:
        yield ok("host.cache", text)


def _memory(facts: HostFacts) -> Iterator[Finding]:
    if facts.available_bytes is None:
        yield unknown("host.memory", "this machine does not say how much memory is free")
        return
    text = f"{facts.available_bytes / 1e9:.1f} GB of memory are free"
    if facts.available_bytes < _ROOMY_MEMORY_BYTES:
        yield warning(
            "host.memory", f"only {text}, and building takes two or more", "end other programs; build --jobs 1"
        )
    else:
        yield ok("host.memory", text)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
