"""The licences of what goes to a device beside the models, as one text that goes with it.

The texts of a runtime are those of its own wheel. ExecuTorch's names its own
licence alone, so those of the projects inside its libraries stand here
(``executorch.txt``, from the licence files that PyTorch, NumPy and ONNX
Runtime ship for the same projects).
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE = Path(__file__).parent

_IN_THE_WHEEL = {
    "executorch": ("executorch-{version}.dist-info/licenses/LICENSE",),
    "onnxruntime": ("onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"),
}
_PROJECTS = {"executorch": "ExecuTorch", "onnxruntime": "ONNX Runtime"}

_LINE = "=" * 78


def notices_name(engine: str) -> str:
    """The name of the text on a device, beside the runner of that engine."""
    return f"edgeq-runner-{engine}.NOTICES.txt"


def notices(engine: str, wheel: Path, version: str) -> str:
    """What must go along with the runner of ``engine`` and the libraries from ``wheel``, its runtime's."""
    return f"\n{_LINE}\n".join(_sections(engine, wheel, version))


def projects_inside(engine: str) -> tuple[tuple[str, str], ...]:
    """The projects inside a runtime's libraries that its wheel does not name, each with its licence (SPDX)."""
    text = _text(engine) if (_HERE / f"{engine}.txt").is_file() else ""
    return tuple(re.findall(r"^(\S.*) \(([^()]+)\): .*\n-{70,}$", text, re.MULTILINE))


def _sections(engine: str, wheel: Path, version: str) -> Iterator[str]:
    yield (
        f"Licences of the program edgeq-runner-{engine} and of the libraries of {_PROJECTS[engine]} {version}\n"
        "that lie beside this file.\n"
    )
    yield "edgeq (Apache-2.0): the program itself\n\n" + _text("edgeq")
    yield "GCC and glibc: what a compiler adds to a program\n\n" + _text("compiler")
    with zipfile.ZipFile(wheel) as archive:
        for member in _IN_THE_WHEEL[engine]:
            text = archive.read(member.format(version=version)).decode("utf-8", errors="replace")
            yield f"{_PROJECTS[engine]}: {Path(member).name}\n\n" + text.replace("\r\n", "\n")
    if (_HERE / f"{engine}.txt").is_file():
        yield f"Projects inside the libraries of {_PROJECTS[engine]}\n"
        yield _text(engine)


def _text(name: str) -> str:
    return (_HERE / f"{name}.txt").read_text(encoding="utf-8")
