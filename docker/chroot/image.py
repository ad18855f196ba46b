"""Makes the stages of a Dockerfile, each as a folder: the Dockerfile's own steps, in their order."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath

import host
from container import ChrootError, Container, Mount, Process, account
from dockerfile import Dockerfile, Ignored, Instruction, Stage, argument, filled_in, pairs, read_ignored


@dataclass(frozen=True, kw_only=True)
class Image:
    """A stage that is made: its root, and what it says of its programs."""

    root: Path
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = "root"
    workdir: str = "/"
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    healthcheck: tuple[str, ...] = ()
    key: str = ""
    """A hash of all that went in: the steps, their arguments and what they copied."""

    @property
    def process(self) -> Process:
        """How a program of it runs."""
        return Process(env=self.env, user=self.user, workdir=self.workdir)

    @property
    def size_bytes(self) -> int:
        """What its files take on the disk, as du counts."""
        done = subprocess.run(["du", "-s", "-B1", str(self.root)], capture_output=True, text=True, check=True)
        return int(done.stdout.split()[0])


@dataclass(frozen=True, kw_only=True)
class Making:
    """Where a Dockerfile's stages go, and what they are made of. ``tell`` takes lines for a person."""

    dockerfile: Dockerfile
    context: Path
    into: Path
    build_args: Mapping[str, str]
    tell: Callable[[str], None]

    @property
    def ignored(self) -> Ignored:
        """What of the context an engine would not be sent."""
        return read_ignored(self.context / ".dockerignore")


def load(folder: Path) -> Image:
    """The image whose root is ``folder``, as :func:`make` left it; ChrootError if it did not."""
    described = folder.with_suffix(".json")
    if not described.is_file():
        raise ChrootError(f"no image was made at {folder}; run: docker/chroot build")
    data = json.loads(described.read_text(encoding="utf-8"))
    lists = {name: tuple(data[name]) for name in ("entrypoint", "cmd", "healthcheck")}
    return Image(**{**data, **lists, "root": folder})


def make(making: Making, target: str) -> Image:
    """Make the stage ``target`` and those it takes from; one that is there is kept if all that goes in is the same."""
    made: dict[str, Image] = {}
    for stage in making.dockerfile.needed_for(target):
        began = time.monotonic()
        making.tell(f"=== {making.dockerfile.path.name}, stage {stage.name} (FROM {stage.base})")
        key = _key(making, stage, made)
        there = making.into / stage.name
        if there.with_suffix(".json").is_file() and load(there).key == key:
            made[stage.name] = load(there)
            making.tell("=== nothing of it has changed")
            continue
        there.with_suffix(".json").unlink(missing_ok=True)
        made[stage.name] = image = replace(_make_stage(making, stage, made), key=key)
        image.root.with_suffix(".json").write_text(
            json.dumps({**asdict(image), "root": str(image.root)}), encoding="utf-8"
        )
        seconds = time.monotonic() - began
        making.tell(f"=== stage {stage.name}: {image.size_bytes / 1e6:.0f} MB, {seconds:.0f} s")
    return made[target]


def _key(making: Making, stage: Stage, made: Mapping[str, Image]) -> str:
    base = made[stage.base].key if stage.base in made else stage.base
    digest = hashlib.sha256(repr((base, sorted(making.build_args.items()), making.dockerfile.arguments)).encode())
    for step in stage.instructions:
        digest.update(repr((step.name, sorted(step.flags.items()), step.text)).encode())
        if "from" in step.flags:
            digest.update(made[step.flags["from"]].key.encode())
        elif step.name == "COPY":
            for source in step.text.split()[:-1]:
                for path in copied_from_context(making.context, source, making.ignored):
                    name = path.relative_to(making.context.resolve())
                    digest.update(repr((str(name), path.stat().st_mode)).encode() + path.read_bytes())
    return digest.hexdigest()


def _make_stage(making: Making, stage: Stage, made: Mapping[str, Image]) -> Image:
    making.into.mkdir(parents=True, exist_ok=True)
    root = making.into / stage.name
    shutil.rmtree(root, ignore_errors=True)
    if stage.base in made:
        _copy_tree(made[stage.base].root, root)
        image = replace(made[stage.base], root=root)
    elif stage.base == "scratch":
        root.mkdir(parents=True)
        image = Image(root=root)
    else:
        pristine = making.into.parent / stage.base.replace(":", "-").replace("@", "-")
        if not pristine.is_dir():
            making.tell(f"--- {stage.base}: made of this machine's mirror with mmdebstrap")
            host.base(stage.base, pristine)
        _copy_tree(pristine, root)
        image = Image(root=root)
    arguments: dict[str, str] = {}
    for instruction in stage.instructions:
        making.tell(f"--- {instruction.name} {instruction.text}")
        if instruction.name == "ARG":
            name, value = argument(instruction)
            arguments[name] = making.build_args.get(name, value or making.dockerfile.arguments.get(name, ""))
        else:
            image = _STEPS[instruction.name](making, instruction, image, arguments, made)
    return image


def _run(making: Making, step: Instruction, image: Image, arguments: Mapping[str, str], _: object) -> Image:
    pip, mounts = host.pip_settings()
    process = replace(image.process, env={**pip, **arguments, **image.env})
    status = Container(image.root, step.argv, process, mounts=mounts).wait()
    if status:
        raise ChrootError(f"{making.dockerfile.path}:{step.line}: RUN ended with status {status}")
    for mount in mounts:
        _remove_mount_point(image.root, mount)
    return image


def _copy(
    making: Making, step: Instruction, image: Image, arguments: Mapping[str, str], made: Mapping[str, Image]
) -> Image:
    *sources, to = filled_in(step.text, {**image.env, **arguments}).split()
    target = image.root / str(PurePosixPath(image.workdir) / to).lstrip("/")
    into_folder = len(sources) > 1 or to.endswith("/")
    # What comes from the context is root's; what comes from another stage keeps its owner.
    owner = step.flags.get("chown", "" if "from" in step.flags else "0").partition(":")[0]
    who = account(image.root, owner) if owner else None
    for source in sources:
        taken = _taken(making, step.flags.get("from"), source, made)
        if not taken:
            raise ChrootError(f"{making.dockerfile.path}:{step.line}: COPY finds no {source}")
        for path, name in taken.items():
            # A folder's content goes into the target, a file becomes it.
            place = target / (name or path.name) if name or into_folder else target
            place.parent.mkdir(parents=True, exist_ok=True)
            _copy_tree(path, place)
            if who is not None:
                subprocess.run(["chown", "-R", f"{who.uid}:{who.gid}", str(place)], check=True)
    return image


def _taken(making: Making, stage: str | None, source: str, made: Mapping[str, Image]) -> dict[Path, str]:
    """What a source of COPY stands for: each path with its name inside of the folder that was named, if one was."""
    if stage is None:
        start = (making.context / source).resolve()
        paths = copied_from_context(making.context, source, making.ignored)
    else:
        start = made[stage].root / source.lstrip("/")
        paths = sorted(start.iterdir()) if start.is_dir() else [start] if start.exists() else []
    return {path: "" if path == start else str(path.relative_to(start)) for path in paths}


def copied_from_context(context: Path, source: str, ignored: Ignored) -> list[Path]:
    """The files that ``COPY source`` takes from ``context``: what .dockerignore keeps back is not there."""
    context = context.resolve()
    start = (context / source).resolve()
    found = [start] if start.is_file() else []
    for folder, names, files in os.walk(start):
        if Path(folder) == context:
            names[:] = [name for name in names if name in ignored.exceptions or not ignored(name)]
        found += [Path(folder, name) for name in files]
    return sorted(path for path in found if not ignored(path.relative_to(context).as_posix()))


def _env(_: object, step: Instruction, image: Image, arguments: Mapping[str, str], __: object) -> Image:
    known = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **image.env, **arguments}
    return replace(image, env={**image.env, **{n: filled_in(v, known) for n, v in pairs(step).items()}})


def _workdir(_: object, step: Instruction, image: Image, arguments: Mapping[str, str], __: object) -> Image:
    workdir = str(PurePosixPath(image.workdir) / filled_in(step.text, {**image.env, **arguments}))
    folder = image.root / workdir.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)  # root's, as BuildKit makes it
    return replace(image, workdir=workdir)


def _user(_: object, step: Instruction, image: Image, arguments: Mapping[str, str], __: object) -> Image:
    user = filled_in(step.text, {**image.env, **arguments})
    account(image.root, user)
    return replace(image, user=user)


def _entrypoint(_: object, step: Instruction, image: Image, __: object, ___: object) -> Image:
    return replace(image, entrypoint=step.argv, cmd=())


def _cmd(_: object, step: Instruction, image: Image, __: object, ___: object) -> Image:
    return replace(image, cmd=step.argv)


def _healthcheck(_: object, step: Instruction, image: Image, __: object, ___: object) -> Image:
    return replace(image, healthcheck=replace(step, text=step.text.removeprefix("CMD").strip()).argv)


def _said_only(_: object, __: object, image: Image, ___: object, ____: object) -> Image:
    """EXPOSE and LABEL change no file and no program."""
    return image


_STEPS: Mapping[str, Callable[..., Image]] = {
    "RUN": _run,
    "COPY": _copy,
    "ENV": _env,
    "WORKDIR": _workdir,
    "USER": _user,
    "ENTRYPOINT": _entrypoint,
    "CMD": _cmd,
    "HEALTHCHECK": _healthcheck,
    "EXPOSE": _said_only,
    "LABEL": _said_only,
}


def command_of(image: Image, arguments: Sequence[str], entrypoint: Sequence[str] | None = None) -> tuple[str, ...]:
    """What an engine starts: the entry point, then what was asked for or else CMD."""
    return (*(image.entrypoint if entrypoint is None else entrypoint), *(arguments or image.cmd))


def _copy_tree(source: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", "-T", str(source), str(to)], check=True)


def _remove_mount_point(root: Path, mount: Mount) -> None:
    """Take the empty file or folder away that a mount of this machine stood on, and the folders made for it."""
    place = root / mount.at.lstrip("/")
    if place.is_file():
        place.unlink()
        place = place.parent
    while place != root and place.is_dir() and not any(place.iterdir()) and place.name not in ("run", "opt", "etc"):
        place.rmdir()
        place = place.parent
