"""What ``edgeq explain`` tells a person to try: each is built as it was, and as it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch
from quantize_models import IMAGE, lowered, quantized, reference, samples, settled
from torch import nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from edgeq.lower.reasons import REWRITES

if TYPE_CHECKING:
    from pathlib import Path

    from edgeq.lower import Coverage

Pattern = Callable[[torch.Tensor], torch.Tensor]


class Between(nn.Module):
    """A pattern between two convolutions."""

    def __init__(self, pattern: Pattern, reads: int = 8) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(reads, 8, 1)
        self.pattern = pattern

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.pattern(self.first(x)))


class Bicubic(Between):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(F.interpolate(self.first(x), scale_factor=2, mode="bicubic"))


class Rolled(Between):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.roll(self.first(x), 1, -1))


class Reflected(Between):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(F.pad(self.first(x), (1, 1, 1, 1), mode="reflect"))


class Softplus(Between):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(F.softplus(self.first(x)))


@dataclass(frozen=True)
class Tried:
    """A pattern that gets the advice ``told``, and what follows it; ``exact`` if both compute the same."""

    told: str
    before: Pattern | type[Between]
    after: Pattern
    exact: bool = False
    reads: int = 8


def _with(layer: nn.Module, weight: torch.Tensor) -> nn.Module:
    """A layer without bias that has these weights."""
    layer.weight.data = weight
    return layer


def _norm() -> nn.Module:
    return nn.BatchNorm2d(8)


def _ones(stride: int = 1) -> nn.Module:
    return _with(nn.Conv2d(8, 8, 1, stride=stride, groups=8, bias=False), torch.ones(8, 1, 1, 1))


def _twice() -> nn.Module:
    return _with(nn.ConvTranspose2d(8, 8, 2, stride=2, groups=8, bias=False), torch.ones(8, 1, 2, 2))


def _mean_of_channels() -> nn.Module:
    return _with(nn.Conv2d(8, 1, 1, bias=False), torch.full((1, 8, 1, 1), 1 / 8))


def _sums() -> nn.Module:
    return _with(nn.Linear(16, 16, bias=False), torch.ones(16, 16).tril())


PTE = {
    "float64": Tried("float32: leave", lambda x: (x.double().abs()).float(), torch.abs, exact=True),
    "bicubic": Tried("bilinear", Bicubic, lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")),
    "roll": Tried("two slices", Rolled, lambda x: torch.cat((x[..., -1:], x[..., :-1]), -1), exact=True),
    "reflect": Tried("pad with zeros", Reflected, lambda x: F.pad(x, (1, 1, 1, 1))),
    "softplus": Tried("hardswish", Softplus, F.hardswish),
    "softmax": Tried(
        "to the end", lambda x: x.softmax(1), lambda x: x.transpose(1, -1).softmax(-1).transpose(1, -1), exact=True
    ),
    "log_softmax": Tried("of the answers", lambda x: F.log_softmax(x, -1), lambda x: F.softmax(x, -1)),
    "ceil_mode": Tried(
        "ceil_mode=False", lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True), lambda x: F.avg_pool2d(x, 3, 2)
    ),
    "counted zeros": Tried(
        "count_include_pad", lambda x: F.avg_pool2d(x, 3, 1, 1),
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    ),
    "nearest": Tried(
        "transposed convolution", lambda x: F.interpolate(x, scale_factor=2),
        _twice(), exact=True,
    ),
    "cumsum": Tried(
        "tril", lambda x: x.cumsum(-1), _sums(), exact=True
    ),
    "power": Tried("multiply it out", lambda x: x.pow(3), lambda x: x * x * x, exact=True),
    "stride": Tried(
        "give the stride", lambda x: x[:, :, ::2, ::2],
        _ones(stride=2), exact=True,
    ),
    "mean of channels": Tried(
        "1x1 convolution", lambda x: x.mean(1, keepdim=True), _mean_of_channels(),
        exact=True, reads=1,
    ),
    "largest of all": Tried(
        "max_pool2d", lambda x: x.amax((2, 3), keepdim=True), lambda x: F.max_pool2d(x, (16, 16)), exact=True
    ),
    "group norm": Tried("BatchNorm2d", lambda x: F.group_norm(x, 2), _norm()),
}  # fmt: skip

ONNX = {
    "group norm": PTE["group norm"],
    "transposed": Tried(
        "a convolution", _twice(),
        nn.Sequential(nn.Upsample(scale_factor=2), _ones()), exact=True,
    ),
}  # fmt: skip

CASES = [(form, name) for form, tried in (("pte", PTE), ("onnx", ONNX)) for name in tried]


def _built(module: nn.Module, form: str, folder: Path) -> Coverage:
    return lowered(quantized(module, samples(IMAGE, count=2)), form, folder)[0]


@pytest.mark.parametrize(("form", "name"), CASES)
def test_a_pattern_is_told_a_rewrite_and_with_it_nothing_is_told_any_more(form: str, name: str, tmp_path: Path) -> None:
    tried = (PTE if form == "pte" else ONNX)[name]
    torch.manual_seed(0)
    made = tried.before if isinstance(tried.before, type) else Between
    before = settled(made(tried.before, tried.reads))
    after = settled(Between(tried.after, tried.reads))
    for part in ("first", "last"):
        getattr(after, part).load_state_dict(getattr(before, part).state_dict())

    first, then = (_built(module, form, tmp_path) for module in (before, after))
    advised = {node.rewrite for node in first.nodes.nodes if node.rewrite}
    assert any(tried.told in advice for advice in advised), advised
    assert not {node.rewrite for node in then.nodes.nodes} & advised
    assert then.partitions == 1
    assert all(node.delegated for node in then.nodes.nodes)
    if tried.exact:
        given = samples(IMAGE, count=2)
        torch.testing.assert_close(
            torch.tensor(reference(before, given)), torch.tensor(reference(after, given)), rtol=1e-4, atol=1e-4
        )


def test_each_rewrite_is_tried_here_in_the_format_that_it_is_for() -> None:
    by_construction = {one for one in REWRITES if one.code == "excluded-by-recipe"}
    for form, tried in (("pte", PTE), ("onnx", ONNX)):
        told = [one.told for one in tried.values()]
        mine = [one for one in REWRITES if one.form in ("", form) and one not in by_construction]
        assert [one.do for one in mine if not any(words in one.do for words in told)] == []
