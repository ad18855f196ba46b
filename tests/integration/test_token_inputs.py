"""Models that read token ids: the whole of ``build``, from a project's own files to two artifacts that were run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgeq.errors import SampleError
from edgeq.evaluation import EvaluationSet
from edgeq.host import HostRuntime
from edgeq.model import load_dataset
from edgeq.progress import Silent
from edgeq.project import load_project
from edgeq.stages.build import build
from edgeq.stages.planning import plan
from edgeq.target import load_target

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = """
[model]
name = "words"
factory = "model.py:load"
inputs = [{ shape = [1, 6], dtype = "DTYPE" }]

[data]
evaluation = "model.py:evaluation"

[build]
recipes = ["fp32"]
"""
MODEL = """
import torch

class Words(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(50, 16, padding_idx=0)
        self.head = torch.nn.Linear(16, 4)

    def forward(self, ids):
        return self.head(torch.tanh(self.table(ids)).mean(1))

def load():
    torch.manual_seed(0)
    return Words()

def evaluation():
    generator = torch.Generator().manual_seed(1)
    for index in range(8):
        yield (torch.randint(0, 50, (1, 6), generator=generator, dtype=torch.DTYPE),), index % 4

def floats():
    yield (torch.zeros(1, 6),)
"""


def _project(folder: Path, dtype: str) -> Path:
    (folder / "edgeq.toml").write_text(PROJECT.replace("DTYPE", dtype))
    (folder / "model.py").write_text(MODEL.replace("DTYPE", dtype))
    return folder


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_a_model_of_token_ids_is_built_and_scored_in_both_formats(dtype: str, tmp_path: Path) -> None:
    project = load_project(_project(tmp_path, dtype))
    what = plan(project, load_target("rpi4"), recipes=(), formats=(), jobs=1)

    manifest = build(what, tmp_path / "build", progress=Silent())

    evaluation = EvaluationSet.of(tmp_path / "build", manifest)
    assert evaluation.inputs[0].dtype == np.dtype(dtype)
    assert evaluation.inputs[0].max() > 1
    for artifact in manifest.artifacts:
        assert [(spec.dtype, spec.shape) for spec in artifact.inputs] == [(dtype, (1, 6))]
        runtime = HostRuntime(tmp_path / "build" / artifact.name, artifact.format)
        again = np.concatenate([runtime.run(inputs)[0] for inputs in evaluation])
        np.testing.assert_array_equal(again, evaluation.host_outputs(artifact.name))
        assert len(np.unique(again, axis=0)) == 8
    assert manifest.cross_checks[0].agree == 8


def test_a_sample_of_another_dtype_is_refused_by_name(tmp_path: Path) -> None:
    project = load_project(_project(tmp_path, "int64"))

    with pytest.raises(SampleError, match=r"float32 \[1, 6\] where edgeq.toml says int64"):
        list(load_dataset(project, "model.py:floats", labelled=False))
