"""Runs the services of a compose file in chroots: in the order of ``depends_on``, with volumes and health checks."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from container import ChrootError, Container, Mount
from dockerfile import filled_in, read_dockerfile
from image import Image, Making, command_of, load, make

# What an engine does and a chroot does not: told, never passed over unseen.
NOT_DONE = ("cap_drop", "security_opt", "init", "ports", "networks", "restart", "stop_grace_period")
_DONE = (
    "build",
    "image",
    "pull_policy",
    "command",
    "depends_on",
    "environment",
    "volumes",
    "entrypoint",
    "healthcheck",
)
_HEALTH_S = 180.0
_HEALTH_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service of a compose file, with its variables filled in."""

    name: str
    says: Mapping[str, Any]

    @property
    def waits_for(self) -> Mapping[str, str]:
        """The services that come before it, and what of them: ``service_healthy`` or ``..._completed_successfully``."""
        depends = self.says.get("depends_on", {})
        return {name: one["condition"] for name, one in depends.items()}


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A compose file, and the folder where images, volumes and layers of it go."""

    path: Path
    into: Path
    build_args: Mapping[str, str]
    tell: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)

    def services(self) -> tuple[Service, ...]:
        """The services, each after those that it waits for."""
        try:
            document = yaml.safe_load(filled_in_all(self.path.read_text(encoding="utf-8")))
        except yaml.YAMLError as error:
            raise ChrootError(f"{self.path}: {error}") from error
        if not isinstance(document, dict) or "services" not in document:
            raise ChrootError(f"{self.path}: no services")
        services = {name: Service(name=name, says=says) for name, says in document["services"].items()}
        ordered: list[Service] = []
        while len(ordered) < len(services):
            done = {one.name for one in ordered}
            ready = [s for s in services.values() if s.name not in done and set(s.waits_for) <= done]
            if not ready:
                raise ChrootError(f"{self.path}: services wait for each other")
            ordered.append(ready[0])
        return tuple(ordered)

    def build(self) -> None:
        """Make the image of every service, each Dockerfile's target once."""
        made = set()
        for service in self.services():
            build = self._build_of(service)
            key = (build["dockerfile"], build["target"])
            if key not in made:
                context = (self.path.parent / build["context"]).resolve()
                dockerfile = read_dockerfile(context / build["dockerfile"], self.build_args)
                make(
                    Making(
                        dockerfile=dockerfile,
                        context=context,
                        into=self._images(build),
                        build_args=self.build_args,
                        tell=self.tell,
                    ),
                    build["target"],
                )
                made.add(key)

    def run(self) -> None:
        """Run every service to its end, or, where others wait for its health, as long as they run."""
        for name in ("layers", "volumes"):
            shutil.rmtree(self.into / name, ignore_errors=True)
        lasting: dict[str, Container] = {}
        services = self.services()
        try:
            for service in services:
                began = time.monotonic()
                self.tell(f"=== service {service.name}")
                self._tell_what_is_not_done(service)
                container = self._start(service, [one.name for one in services])
                if any(one.waits_for.get(service.name) == "service_healthy" for one in services):
                    lasting[service.name] = container
                    self._wait_for_health(service, container)
                elif status := container.wait():
                    raise ChrootError(f"service {service.name} ended with status {status}")
                self.seconds[service.name] = time.monotonic() - began
                self.tell(f"=== service {service.name}: {self.seconds[service.name]:.0f} s")
        finally:
            for name, container in lasting.items():
                self.tell(f"=== service {name} stopped, status {container.stop()}")

    def _start(self, service: Service, names: list[str]) -> Container:
        image = self._image(service)
        given = service.says.get("environment", {})
        process = image.process
        return Container(
            image.root,
            command_of(image, service.says.get("command", ()), service.says.get("entrypoint")),
            replace(process, env={**process.env, **given}),
            mounts=[self._mount(text, image) for text in service.says.get("volumes", ())],
            hosts=names,
            layer=self.into / "layers" / service.name,
        )

    def _mount(self, text: str, image: Image) -> Mount:
        """What ``NAME:/at[:ro]`` or ``FOLDER:/at[:ro]`` names; a new volume begins with what the image has there."""
        source, at, *mode = text.split(":")
        if source.startswith((".", "/")):
            return Mount(source=(self.path.parent / source).resolve(), at=at, read_only=mode == ["ro"])
        folder = self.into / "volumes" / source
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            there = image.root / at.lstrip("/")
            if there.is_dir():
                subprocess.run(["cp", "-a", "-T", str(there), str(folder)], check=True)
            else:
                folder.mkdir()
        return Mount(source=folder, at=at, read_only=mode == ["ro"])

    def _wait_for_health(self, service: Service, container: Container) -> None:
        check = self._image(service).healthcheck
        deadline = time.monotonic() + _HEALTH_S
        while time.monotonic() < deadline:
            if (status := container.status()) is not None:
                raise ChrootError(f"service {service.name} ended with status {status} before it was healthy")
            if container.run_inside(check) == 0:
                return
            time.sleep(_HEALTH_EVERY_S)
        raise ChrootError(f"service {service.name} was not healthy within {_HEALTH_S:.0f} s")

    def _tell_what_is_not_done(self, service: Service) -> None:
        unknown = set(service.says) - set(_DONE) - set(NOT_DONE)
        if unknown:
            raise ChrootError(f"{self.path}: {service.name} says {', '.join(sorted(unknown))}, which is not read here")
        for name in NOT_DONE:
            if name in service.says:
                self.tell(f"not done in a chroot: {name}: {service.says[name]}")

    def _build_of(self, service: Service) -> Mapping[str, Any]:
        """How the image of ``service`` is built: by itself, or by another service that names the same image."""
        for one in (service, *self.services()):
            if "build" in one.says and (one is service or one.says.get("image", one.name) == service.says.get("image")):
                return dict(one.says["build"])
        raise ChrootError(f"{self.path}: no service builds the image of {service.name}")

    def _image(self, service: Service) -> Image:
        build = self._build_of(service)
        return load(self._images(build) / build["target"])

    def _images(self, build: Mapping[str, Any]) -> Path:
        return self.into / "images" / Path(build["dockerfile"]).stem


def filled_in_all(text: str) -> str:
    """A compose file with its ``${NAME:-default}`` replaced from the environment."""
    return "\n".join(filled_in(line, os.environ) if "${" in line else line for line in text.splitlines())
