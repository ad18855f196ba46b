"""A project with a build of two artifacts, and rows of it as sessions append them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgeq.records import Manifest, Origin
from edgeq.schema import to_json
from edgeq.testing import sample_measurement, tiny_build

if TYPE_CHECKING:
    from edgeq.records import Measurement

PROJECT = """
[model]
name = "tiny"
factory = "model.py:load"
inputs = [{ shape = [1, 4] }]
[data]
evaluation = "data.py:evaluation"
"""


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A project's folder, and a build of it."""

    project: Path
    build: Path
    manifest: Manifest

    def rows(self, session: str, **changes: Any) -> tuple[Measurement, ...]:
        """A row of each artifact, as one session gives them."""
        rows = (sample_measurement(one, session=session) for one in self.manifest.artifacts)
        return tuple(replace(row, **changes) for row in rows)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.delenv("EDGEQ_HISTORY", raising=False)
    project, build = tmp_path / "project", tmp_path / "build"
    project.mkdir()
    (project / "edgeq.toml").write_text(PROJECT)
    manifest = tiny_build(build)
    (build / "origin.json").write_text(to_json(Origin(project=str(project), commit="c0ffee")))
    return Shop(project=project, build=build, manifest=manifest)
