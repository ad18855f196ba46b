from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runner_device import SAMPLES


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small models of runner_models.py and what PyTorch makes of the samples; made once."""
    folder = tmp_path_factory.mktemp("models")
    np.save(folder / "samples.npy", SAMPLES)
    subprocess.run(
        [sys.executable, Path(__file__).with_name("runner_models.py"), folder], check=True, capture_output=True
    )
    return folder
