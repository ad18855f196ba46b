"""Whether the files of a build are still what its manifest says: checked before they are pushed or measured."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from edgeq.errors import CorruptArtifactError
from edgeq.files import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.records import Artifact


def check_artifact(build: Path, artifact: Artifact) -> None:
    """CorruptArtifactError unless the artifact's file is what the manifest says."""
    path = build / artifact.name
    if artifact.name != path.name or not path.is_file():
        raise CorruptArtifactError(path, "is missing, and the manifest lists it")
    if sha256_file(path) != artifact.sha256:
        raise CorruptArtifactError(path, "is not the file that was built: its sha256 differs from the manifest's")


def read_golden(build: Path, artifact: Artifact) -> tuple[bytes, bytes]:
    """The artifact's golden input and output; CorruptArtifactError unless they are those of the manifest."""
    pair = []
    for sha256 in (artifact.golden.input_sha256, artifact.golden.output_sha256):
        path = build / "golden" / f"{sha256}.bin"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CorruptArtifactError(path, f"cannot be read ({error.strerror})") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CorruptArtifactError(path, "is not the file that was built: its sha256 differs from its name")
        pair.append(data)
    return pair[0], pair[1]
