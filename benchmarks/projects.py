"""A network of the zoo as a user's project, for the commands of edgeq.

python benchmarks/projects.py NAME FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from zoo import ZOO

HERE = Path(__file__).parent

_EDGEQ_TOML = """\
[model]
name = "{name}"
factory = "project.py:network"
inputs = [{{ shape = {shape} }}]

[data]
calibration = "project.py:calibration"
evaluation = "project.py:evaluation"

[build]
target = "{target}"
"""

_PROJECT_PY = """\
import sys

sys.path.append({here!r})

import torch
from zoo import ZOO, samples

ENTRY = ZOO[{name!r}]
network = ENTRY.network


def calibration():
    for sample in samples(ENTRY.shape, 8, seed=2):
        yield (torch.from_numpy(sample)[None],)


def evaluation():
    # Weights and labels are random: accuracy says nothing, agreement with fp32 does.
    for index, sample in enumerate(samples(ENTRY.shape, 16, seed=3)):
        yield (torch.from_numpy(sample)[None],), index % 10
"""


def write_project(name: str, folder: Path, *, target: str = "rpi4") -> None:
    """Write ``edgeq.toml`` and the functions that it names into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = [1, *ZOO[name].shape]
    (folder / "edgeq.toml").write_text(_EDGEQ_TOML.format(name=name, shape=shape, target=target))
    (folder / "project.py").write_text(_PROJECT_PY.format(here=str(HERE), name=name))


if __name__ == "__main__":
    write_project(sys.argv[1], Path(sys.argv[2]))
