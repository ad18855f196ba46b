"""docker/: what its Dockerfile says against the tree and the command line; nothing is built."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from edgeq.cli import group
from edgeq.schema import read_toml

ROOT = Path(__file__).parents[2]
with pytest.MonkeyPatch.context() as patch:  # on the path of this import alone: a build records where Python looks
    patch.syspath_prepend(str(ROOT / "docker/chroot"))
    from dockerfile import (
        Dockerfile,
        DockerfileError,
        Ignored,
        Instruction,
        argument,
        filled_in,
        read_dockerfile,
        read_ignored,
    )
    from image import copied_from_context

DOCKERFILE = ROOT / "docker/Dockerfile"
COMPOSE = ROOT / "docker/compose.yaml"
SCRIPTS = sorted((ROOT / "docker").glob("*.sh"))
EXPORTED = ("runners", "dist")  # stages that are files, not images to run


@pytest.fixture(scope="module")
def docker() -> Dockerfile:
    return read_dockerfile(DOCKERFILE)


@pytest.fixture(scope="module")
def ignored() -> Ignored:
    return read_ignored(ROOT / ".dockerignore")


def _all(docker: Dockerfile, *names: str) -> list[tuple[str, Instruction]]:
    return [(stage.name, one) for stage in docker.stages for one in stage.instructions if one.name in names]


def test_every_base_is_a_stage_above_or_the_one_pinned_image(docker: Dockerfile) -> None:
    above = {"scratch"}
    for stage in docker.stages:
        assert stage.base in above or re.fullmatch(r"debian:[a-z]+-\d{8}-slim(@sha256:[0-9a-f]{64})?", stage.base)
        above.add(stage.name)


def test_every_copy_takes_what_is_in_the_tree_and_not_ignored_or_in_a_stage_above(
    docker: Dockerfile, ignored: Ignored
) -> None:
    above: set[str] = set()
    for stage in docker.stages:
        for one in stage.instructions:
            if one.name == "COPY" and "from" in one.flags:
                assert one.flags["from"] in above, f"line {one.line}"
            elif one.name == "COPY":
                for source in one.text.split()[:-1]:
                    assert copied_from_context(ROOT, source, ignored), f"line {one.line}: {source}"
        above.add(stage.name)


def test_what_comes_from_a_stage_is_made_there(docker: Dockerfile) -> None:
    """A path that a stage is asked for stands in an instruction of it or of what it is FROM."""
    said: dict[str, str] = {}
    for stage in docker.stages:
        own = "\n".join(one.text for one in stage.instructions)
        said[stage.name] = said.get(stage.base, "") + own
        for one in stage.instructions:
            if one.name == "COPY" and "from" in one.flags:
                for source in one.text.split()[:-1]:
                    assert source in said[one.flags["from"]], f"line {one.line}: {source}"


def test_every_argument_has_a_use(docker: Dockerfile) -> None:
    text = DOCKERFILE.read_text() + "".join(script.read_text() for script in SCRIPTS)
    names = {argument(one)[0] for _, one in _all(docker, "ARG")} | set(docker.arguments)
    assert names == {"DEBIAN", "DEBIAN_SNAPSHOT", "EDGEQ_TORCH_INDEX"}
    for name in names:
        assert re.search(rf"\$\{{?{name}\b", text), name


def test_no_image_runs_as_root(docker: Dockerfile) -> None:
    users: dict[str, str] = {}
    for stage in docker.stages:
        told = [one.text for one in stage.instructions if one.name == "USER"]
        users[stage.name] = told[-1] if told else users.get(stage.base, "0")
    assert {name: users[name] for name in ("toolchain", "board", "example")} == {
        "toolchain": "1000",
        "board": "1000",
        "example": "1000",
    }
    assert docker.stages[-1].name == "toolchain"


def test_every_program_of_edgeq_that_is_started_there_exists_with_its_options(docker: Dockerfile) -> None:
    texts = [one.argv[-1] for _, one in _all(docker, "RUN")]
    texts += [json.loads(one.text.removeprefix("CMD "))[-1] for _, one in _all(docker, "HEALTHCHECK")]
    texts += [script.read_text() for script in SCRIPTS]
    commands = [words[1:] for text in texts for words in _commands(text) if words[0] == "edgeq"]
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    commands += [one["command"] for one in services.values() if "command" in one]
    assert len(commands) >= 9
    for words in commands:
        assert _is_understood(words), words


def _commands(shell: str) -> list[list[str]]:
    """The simple commands of a shell's text, those of a trap included."""
    found = []
    for line in shell.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        for operator, command in itertools.groupby(words, key=lambda word: set(word) <= set("&|;()<>")):
            if not operator:
                found.append(list(command))
    return found + [one for words in found if words[0] == "trap" for one in _commands(words[1])]


def _is_understood(words: list[str]) -> bool:
    """Whether click takes the words apart as a command of edgeq, without running it."""
    context: click.Context = group.make_context("edgeq", list(words), resilient_parsing=False)
    command: click.Command = group
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        command = found
        context = command.make_context(name, rest, parent=context)
    return True


def _read(folder: Path, text: str, **build_args: str) -> Dockerfile:
    (folder / "Dockerfile").write_text(text)
    return read_dockerfile(folder / "Dockerfile", build_args)


def test_stages_and_lines_that_go_on_are_read(tmp_path: Path) -> None:
    read = _read(
        tmp_path,
        """# a comment
ARG TAG=bookworm
FROM debian:${TAG} AS first
RUN one \\
    # in the middle
    && two
FROM first AS second
COPY --from=first --chown=me /a /b/
CMD ["x", "y z"]
""",
        TAG="trixie",
    )
    assert [(stage.name, stage.base) for stage in read.stages] == [("first", "debian:trixie"), ("second", "first")]
    run, (copy, cmd) = read.stages[0].instructions[0], read.stages[1].instructions
    assert run.argv == ("/bin/sh", "-c", "one     && two")
    assert (copy.flags, copy.text) == ({"from": "first", "chown": "me"}, "/a /b/")
    assert cmd.argv == ("x", "y z")


def test_only_the_stages_that_a_target_takes_from_are_needed_for_it(tmp_path: Path) -> None:
    read = _read(
        tmp_path,
        "FROM debian:x AS a\nFROM a AS b\nFROM debian:x AS c\nFROM scratch AS d\nCOPY --from=b /x /\n",
    )
    assert [stage.name for stage in read.needed_for("d")] == ["a", "b", "d"]
    with pytest.raises(DockerfileError, match="no stage 'e'; there are a, b, c, d"):
        read.needed_for("e")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("FROM a AS b\nONBUILD RUN x\n", "2: 'ONBUILD' is none of"),
        ("FROM a AS b\nRUN --mount=type=cache,target=/x y\n", "2: mounts and here-documents"),
        ("FROM a AS b\nRUN cat <<END\nEND\n", "2: mounts and here-documents"),
        ("RUN x\n", "1: RUN before the first FROM"),
        ("", "no FROM"),
        ("FROM a as b\n", "1: FROM IMAGE AS NAME"),
        ("FROM debian:$TAG AS b\n", "no ARG or ENV TAG"),
        ("FROM a AS b\nRUN x \\\n", "2: the last line goes on"),
    ],
)
def test_what_is_not_read_is_an_error_and_not_passed_over(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DockerfileError, match=complaint):
        _read(tmp_path, text)


def test_an_argument_that_no_stage_has_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DockerfileError, match="no ARG NO_SUCH"):
        _read(tmp_path, "FROM a AS b\nARG X\n", NO_SUCH="1")


def test_variables_are_filled_in_with_their_defaults() -> None:
    known = {"A": "1", "EMPTY": ""}
    assert filled_in("$A-${A}-${EMPTY}-${EMPTY:-2}-${NONE:-3}", known) == "1-1--2-3"
    with pytest.raises(DockerfileError, match="no ARG or ENV NONE"):
        filled_in("${NONE}", known)


def test_the_last_pattern_that_fits_decides_what_is_ignored(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("# all but\n*\n!kept\n!docker/*.sh\n**/__pycache__\n")
    ignored = read_ignored(tmp_path / ".dockerignore")
    paths = ("other", "kept/a", "kept/b/__pycache__/c", "docker/x.sh", "docker/y/x.sh", "docker/x.py", "__pycache__/a")
    assert [path for path in paths if not ignored(path)] == ["kept/a", "docker/x.sh"]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    copied = copied_from_context(tmp_path, ".", ignored)
    assert [str(path.relative_to(tmp_path)) for path in copied] == ["docker/x.sh", "kept/a"]


def test_what_the_wheel_is_made_of_reaches_the_engine(ignored: Ignored) -> None:
    project = read_toml(ROOT / "pyproject.toml")
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [
        *("pyproject.toml", "constraints.txt", project["project"]["readme"]),
        *project["project"]["license-files"],
        *wheel["packages"],
        *wheel["force-include"],
        *(hook["path"] for hook in wheel["hooks"].values()),
    ]
    assert [path for path in needed if not copied_from_context(ROOT, path, ignored)] == []
