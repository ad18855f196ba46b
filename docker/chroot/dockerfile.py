"""Reads a Dockerfile: its stages and, with their variables filled in, their instructions.

What docker/chroot and the tests need of the format, and no more: an
instruction that is not known here, a here-document or a ``RUN --mount`` is an
error, not something to pass over.
https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

INSTRUCTIONS = (
    *("FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER"),
    *("ENTRYPOINT", "CMD", "HEALTHCHECK", "EXPOSE", "LABEL"),
)
_VARIABLE = re.compile(r"\$(?:(?P<plain>\w+)|\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\})")


class DockerfileError(Exception):
    """A Dockerfile says something that is wrong, or that is not read here."""


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction: ``words`` is its text as it stands there, ``flags`` are its ``--name=value``."""

    line: int
    name: str
    flags: Mapping[str, str]
    text: str

    @property
    def argv(self) -> tuple[str, ...]:
        """The command of RUN, CMD or ENTRYPOINT: the JSON form as it is, the other one through ``/bin/sh -c``."""
        if self.text.startswith("["):
            return tuple(json.loads(self.text))
        return ("/bin/sh", "-c", self.text)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What stands below one FROM: ``base`` is another stage's name or an image's."""

    line: int
    name: str
    base: str
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, kw_only=True)
class Dockerfile:
    """A whole file; ``arguments`` are the ARGs before the first FROM, with their defaults."""

    path: Path
    arguments: Mapping[str, str]
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """The stage called ``name``; DockerfileError if there is none."""
        for one in self.stages:
            if one.name == name:
                return one
        raise DockerfileError(f"{self.path}: no stage {name!r}; there are {', '.join(s.name for s in self.stages)}")

    def needed_for(self, name: str) -> tuple[Stage, ...]:
        """The stages that ``name`` is made of, itself last, in the order of the file; an engine skips the others."""
        wanted = {name}
        for stage in reversed(self.stages):
            if stage.name in wanted:
                wanted.add(stage.base)
                wanted |= {i.flags["from"] for i in stage.instructions if "from" in i.flags}
        self.stage(name)
        return tuple(stage for stage in self.stages if stage.name in wanted)


@dataclass(kw_only=True)
class _Reader:
    path: Path
    build_args: Mapping[str, str]
    arguments: dict[str, str] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)


def read_dockerfile(path: Path, build_args: Mapping[str, str] | None = None) -> Dockerfile:
    """Read ``path``; ``build_args`` take the place of the defaults of ARGs. Raises DockerfileError."""
    reader = _Reader(path=path, build_args=build_args or {})
    body: list[Instruction] = []
    for instruction in _instructions(path):
        if instruction.name == "FROM":
            _close(reader, body)
            body = []
            reader.stages.append(_opened(reader, instruction))
        elif reader.stages:
            body.append(instruction)
        elif instruction.name == "ARG":
            name, value = argument(instruction)
            reader.arguments[name] = reader.build_args.get(name, value)
        else:
            raise DockerfileError(f"{path}:{instruction.line}: {instruction.name} before the first FROM")
    _close(reader, body)
    if not reader.stages:
        raise DockerfileError(f"{path}: no FROM")
    unknown = set(reader.build_args) - set(reader.arguments) - _arguments_of(reader.stages)
    if unknown:
        raise DockerfileError(f"{path}: no ARG {', '.join(sorted(unknown))}")
    return Dockerfile(path=path, arguments=reader.arguments, stages=tuple(reader.stages))


def argument(instruction: Instruction) -> tuple[str, str]:
    """Name and default of an ARG."""
    name, _, value = instruction.text.partition("=")
    return name, value.strip("\"'")


def pairs(instruction: Instruction) -> dict[str, str]:
    """The ``NAME=value`` of an ENV or LABEL, quotes taken away and variables still in place."""
    words = shlex.split(instruction.text)
    if not all("=" in word for word in words):
        raise DockerfileError(f"line {instruction.line}: write {instruction.name} as NAME=value")
    return dict(word.split("=", 1) for word in words)


def filled_in(text: str, variables: Mapping[str, str]) -> str:
    """``text`` with ``$NAME``, ``${NAME}`` and ``${NAME:-default}`` replaced; an unknown name is an error."""

    def value(found: re.Match[str]) -> str:
        name = found["plain"] or found["name"]
        if variables.get(name) or (name in variables and found["default"] is None):
            return variables[name]
        if found["default"] is None:
            raise DockerfileError(f"no ARG or ENV {name} in {text!r}")
        return found["default"]

    return _VARIABLE.sub(value, text)


def _instructions(path: Path) -> list[Instruction]:
    found, lines = [], path.read_text(encoding="utf-8").splitlines()
    start, text = 0, ""
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("#") or (not line.strip() and not text):
            continue
        start = start or number
        if line.rstrip().endswith("\\"):
            text += line.rstrip()[:-1]
            continue
        found.append(_instruction(path, start, text + line))
        start, text = 0, ""
    if text:
        raise DockerfileError(f"{path}:{start}: the last line goes on, and there is no next one")
    return found


def _instruction(path: Path, line: int, text: str) -> Instruction:
    name, _, rest = text.strip().partition(" ")
    if name not in INSTRUCTIONS:
        raise DockerfileError(f"{path}:{line}: {name!r} is none of {', '.join(INSTRUCTIONS)}")
    flags: dict[str, str] = {}
    while found := re.match(r"\s*--([a-z-]+)=(\S+)\s+", rest):
        flags[found[1]] = found[2]
        rest = rest[found.end() :]
    if "mount" in flags or re.search(r"<<-?['\"]?\w", rest):
        raise DockerfileError(f"{path}:{line}: mounts and here-documents are not read here")
    return Instruction(line=line, name=name, flags=flags, text=rest.strip())


def _opened(reader: _Reader, instruction: Instruction) -> Stage:
    """The stage that a FROM begins, without its instructions yet."""
    words = filled_in(instruction.text, reader.arguments).split()
    match words:
        case [base]:
            name = str(len(reader.stages))
        case [base, "AS", name]:
            pass
        case _:
            raise DockerfileError(f"{reader.path}:{instruction.line}: FROM IMAGE AS NAME is all that is read here")
    return Stage(line=instruction.line, name=name, base=base, instructions=())


def _close(reader: _Reader, body: list[Instruction]) -> None:
    if reader.stages:
        last = reader.stages[-1]
        reader.stages[-1] = Stage(line=last.line, name=last.name, base=last.base, instructions=tuple(body))


def _arguments_of(stages: list[Stage]) -> set[str]:
    return {argument(i)[0] for stage in stages for i in stage.instructions if i.name == "ARG"}


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """The patterns of a .dockerignore, in their order; the last one that fits a path decides."""

    patterns: tuple[tuple[re.Pattern[str], bool], ...]
    exceptions: frozenset[str]
    """The first part of each ``!`` pattern: in other ignored folders of the context there is nothing to look for."""

    def __call__(self, path: str) -> bool:
        """Whether the file at ``path`` of the context, as ``a/b``, is kept from the engine."""
        ignored = False
        for pattern, ignores in self.patterns:
            # A pattern that fits a folder fits all that lies in it.
            parents = [path, *(str(parent) for parent in PurePosixPath(path).parents)]
            if any(pattern.fullmatch(one) for one in parents):
                ignored = ignores
        return ignored


def read_ignored(path: Path) -> Ignored:
    """Read a .dockerignore; without one nothing is ignored."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return Ignored(
        patterns=tuple((_as_regex(p.removeprefix("!")), not p.startswith("!")) for p in patterns),
        exceptions=frozenset(p.removeprefix("!").strip("/").partition("/")[0] for p in patterns if p.startswith("!")),
    )


def _as_regex(pattern: str) -> re.Pattern[str]:
    """Go's filepath.Match with ``**`` for any number of folders, which is what .dockerignore speaks."""
    parts = re.split(r"(\*\*/?|\*|\?)", pattern.strip("/"))
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts))
