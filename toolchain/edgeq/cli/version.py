"""``edgeq --version``: edgeq, its runners, and the packages that a result depends on."""

from __future__ import annotations

import json
import platform
from typing import Any

import click

from edgeq import runner
from edgeq.installed import TOOLS, version_of
from edgeq.triple import RUNNERS


def versions() -> dict[str, Any]:
    """Every version as ``--version --json`` tells it; None for a package that is not installed. Nothing is imported.

    A runner's ``build`` is the hash of its sources and pins, which the runner
    itself tells in its ``hello``; MissingSourcesError where neither is here.
    """
    return {
        "edgeq": version_of("edgeq") or None,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {tool: version_of(tool) or None for tool in TOOLS[1:]},
        "runner": {
            "protocol": runner.PROTOCOL,
            "builds": [
                {
                    "runner": f"{triple}/edgeq-runner-{engine}",
                    "runtime": runner.runtime_version(engine, triple),
                    "build": runner.build_hash(engine, triple),
                    "came_with_edgeq": runner.came_along(engine, triple),
                }
                for triple, engine in RUNNERS
            ],
        },
    }


def show(*, as_json: bool) -> None:
    """Print them."""
    found = versions()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    lines = [("edgeq", found["edgeq"]), ("python", f"{found['python']} on {found['machine']}")]
    lines += found["packages"].items()
    lines.append(("runner protocol", str(found["runner"]["protocol"])))
    for one in found["runner"]["builds"]:
        how = "came with edgeq" if one["came_with_edgeq"] else "built when it is needed"
        lines.append((one["runner"], f"{one['build'][:16]}, for {one['runtime']}, {how}"))
    width = max(len(name) for name, _ in lines)
    click.echo("\n".join(f"{name:{width}}  {version or 'not installed'}" for name, version in lines))
