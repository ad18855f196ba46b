"""Proves Dockerfiles and a compose file where there is no engine: their own steps, run in plain chroots.

    sudo .venv/bin/python docker/chroot build docker/Dockerfile --target board --into /var/tmp/edgeq-images
    sudo .venv/bin/python docker/chroot run /var/tmp/edgeq-images/images/Dockerfile/board -- edgeq --version
    sudo .venv/bin/python docker/chroot flow docker/compose.yaml --into /var/tmp/edgeq-images

docs/docker.md says what differs from an engine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from container import ChrootError, Container
from dockerfile import DockerfileError, read_dockerfile
from flow import Flow
from image import Making, command_of, load, make


def main() -> int:
    """Read the command line and do what it says; 1 if a step failed."""
    arguments = _parser().parse_args()
    if os.geteuid():
        print("a chroot takes root: run this with sudo", file=sys.stderr)
        return 2
    try:
        return int(arguments.do(arguments) or 0)
    except (ChrootError, DockerfileError) as error:
        print(f"chroot: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _build(arguments: argparse.Namespace) -> None:
    build_args = dict(arguments.build_arg)
    dockerfile = read_dockerfile(arguments.dockerfile, build_args)
    making = Making(
        dockerfile=dockerfile,
        context=arguments.context.resolve(),
        into=arguments.into.resolve() / "images" / arguments.dockerfile.stem,
        build_args=build_args,
        tell=_tell,
    )
    image = make(making, arguments.target or dockerfile.stages[-1].name)
    _tell(f"made {image.root}: {image.size_bytes / 1e6:.0f} MB")


def _run(arguments: argparse.Namespace) -> int:
    image = load(arguments.image.resolve())
    with tempfile.TemporaryDirectory(prefix="chroot-", dir=arguments.image.resolve().parent) as layer:
        entrypoint = () if arguments.command else None
        command = command_of(image, arguments.command, entrypoint)
        return Container(image.root, command, image.process, layer=Path(layer)).wait()


def _flow(arguments: argparse.Namespace) -> None:
    flow = Flow(
        path=arguments.compose.resolve(),
        into=arguments.into.resolve(),
        build_args=dict(arguments.build_arg),
        tell=_tell,
    )
    if not arguments.no_build:
        flow.build()
    flow.run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="docker/chroot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)

    build = commands.add_parser("build", help="make a stage of a Dockerfile")
    build.add_argument("dockerfile", type=_file)
    build.add_argument("--target", help="the stage; the last one, if not given")
    build.add_argument("--context", type=Path, default=Path())
    build.set_defaults(do=_build)

    run = commands.add_parser("run", help="run the program of an image that was made, or another one, as its user")
    run.add_argument("image", type=Path)
    run.add_argument("command", nargs="*")
    run.set_defaults(do=_run)

    flow = commands.add_parser("flow", help="make the images of a compose file and run its services")
    flow.add_argument("compose", type=_file)
    flow.add_argument("--no-build", action="store_true", help="take the images that are there")
    flow.set_defaults(do=_flow)

    for one in (build, flow):
        one.add_argument("--into", type=Path, required=True, help="a folder for roots, volumes and layers")
        one.add_argument("--build-arg", action="append", default=[], type=_pair, metavar="NAME=VALUE")
    return parser


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    return name, value


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
