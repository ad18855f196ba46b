"""Each rewrite of the float graph, by itself: it leaves nothing of what it is for, and changes no result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from quantize_models import samples, settled
from torch import nn
from torch.fx import GraphModule
from torch.nn import functional

from edgeq.quantize.capture import capture
from edgeq.quantize.rewrite import (
    REWRITES,
    drop_copies,
    fold_batch_norms,
    fold_constants,
    fold_padding,
    fold_scales,
    make_constants_contiguous,
    make_scalars_float,
    multiply_in_batches,
    name_clamps_alike,
    name_functions,
    name_linear_layers,
    pool_globally_by_mean,
    pool_signals_as_planes,
    pool_to_one_maximum,
    reduce_to_reshapes_and_slices,
    spell_out,
    turn_few_axes,
    widen_thin_inputs,
)
from edgeq.quantize.rewrite.recurrent import unroll_recurrent_layers

IMAGE = (2, 3, 8, 8)
SIGNAL = (2, 3, 16)
ROWS = (2, 5, 6)


class Function(nn.Module):
    """A function of one tensor, with layers and weights for it to use."""

    def __init__(self, function: Callable[[Function, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 4, 3)
        self.plain = nn.Conv2d(3, 4, 3, bias=False)
        self.line = nn.Linear(6, 6)
        self.norm, self.norm3 = nn.BatchNorm2d(4), nn.BatchNorm2d(3)
        self.weight = nn.Parameter(torch.randn(6, 4))
        self.factor = nn.Parameter(torch.rand(4, 1, 1) + 0.5)
        self.lstm = nn.LSTM(6, 4, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a rewrite is for: operators that are there before, and those of them that are gone after."""

    rewrite: Callable[[GraphModule], object]
    function: Callable[[Function, torch.Tensor], torch.Tensor]
    shape: tuple[int, ...]
    gone: frozenset[str]
    come: frozenset[str] = frozenset()


def _case(
    rewrite: Any, shape: tuple[int, ...], gone: str, function: Callable[[Any, torch.Tensor], Any], come: str = ""
) -> Case:
    return Case(
        rewrite=rewrite, function=function, shape=shape, gone=frozenset(gone.split()), come=frozenset(come.split())
    )


CASES = {
    "copies": _case(drop_copies, IMAGE, "clone", lambda m, x: m.conv(x.clone()).clone() + 1),
    "spelled hard-swish": _case(
        name_functions, IMAGE, "mul div add", lambda _, x: x * functional.relu6(x + 3) / 6, come="hardswish"
    ),
    "spelled gelu": _case(
        name_functions, IMAGE, "erf", lambda _, x: 0.5 * x * (1 + torch.erf(x / 2**0.5)), come="gelu"
    ),
    "hard-sigmoid": _case(spell_out, IMAGE, "hardsigmoid", lambda _, x: functional.hardsigmoid(x), come="hardtanh"),
    "silu": _case(spell_out, IMAGE, "silu", lambda _, x: functional.silu(x), come="sigmoid mul"),
    "selu": _case(spell_out, IMAGE, "selu", lambda _, x: functional.selu(x), come="elu"),
    "prelu of signals": _case(
        spell_out, SIGNAL, "", lambda m, x: functional.prelu(x, m.factor[:3].flatten()), come="prelu reshape"
    ),
    "scales": _case(
        lambda graph: (fold_scales(graph), fold_constants(graph)),
        IMAGE,
        "mul add",
        lambda m, x: m.conv(x) * m.factor + 0.5,
    ),
    "a scale of a layer without bias": _case(
        lambda graph: (fold_scales(graph), fold_constants(graph)), IMAGE, "sub div", lambda m, x: m.plain(x) / 3 - 0.5
    ),
    "computed weights": _case(
        fold_constants, ROWS, "mul sum", lambda m, x: functional.linear(x, m.line.weight * m.line.weight.sum(0))
    ),
    "batch norm behind a layer": _case(
        fold_batch_norms, IMAGE, "_native_batch_norm_legit_no_training", lambda m, x: m.norm(m.plain(x))
    ),
    "batch norm by itself": _case(
        fold_batch_norms, IMAGE, "_native_batch_norm_legit_no_training", lambda m, x: m.norm3(x), come="conv2d"
    ),
    "batch norm of statistics made in forward": _case(
        lambda graph: (fold_constants(graph), fold_batch_norms(graph)),
        IMAGE,
        "_native_batch_norm_legit_no_training",
        lambda m, x: functional.batch_norm(m.plain(x), torch.zeros(4), torch.ones(4) * 2),
    ),
    "equal padding": _case(
        fold_padding, IMAGE, "constant_pad_nd pad", lambda m, x: m.conv(functional.pad(x, (1, 1, 2, 2)))
    ),
    "same padding": _case(
        fold_padding,
        IMAGE,
        "padding",
        lambda m, x: functional.conv2d(x, m.conv.weight, padding="same"),
        come="conv2d",
    ),
    "a thin input": _case(
        lambda graph: (fold_constants(graph), widen_thin_inputs(graph)),
        IMAGE,
        "",
        lambda m, x: functional.conv2d(x[:, :1], m.conv.weight[:, :1, :2, :2], m.conv.bias, 2, (1, 0)),
        come="constant_pad_nd permute reshape",
    ),
    "a shuffle of channels": _case(
        lambda graph: (drop_copies(graph), reduce_to_reshapes_and_slices(graph), turn_few_axes(graph)),
        (2, 6, 4, 4),
        "transpose",
        lambda _, x: x.reshape(2, 3, 2, 4, 4).transpose(1, 2).reshape(2, 6, 4, 4),
        come="permute reshape",
    ),
    "a permutation around axes of one": _case(
        lambda graph: (drop_copies(graph), reduce_to_reshapes_and_slices(graph), turn_few_axes(graph)),
        (1, 6, 4),
        "",
        lambda _, x: x.reshape(1, 2, 3, 1, 4).permute(0, 4, 3, 1, 2).reshape(4, 6),
        come="permute reshape",
    ),
    "global pooling": _case(
        pool_globally_by_mean,
        IMAGE,
        "adaptive_avg_pool2d",
        lambda _, x: functional.adaptive_avg_pool2d(x, 1).flatten(1),
        come="mean",
    ),
    "mean of signals": _case(pool_globally_by_mean, SIGNAL, "", lambda _, x: x.mean(-1), come="mean reshape"),
    "pooling of signals": _case(
        pool_signals_as_planes, SIGNAL, "max_pool1d", lambda _, x: functional.max_pool1d(x, 3, 2, 1), come="max_pool2d"
    ),
    "one maximum": _case(
        pool_to_one_maximum,
        IMAGE,
        "adaptive_max_pool2d",
        lambda _, x: functional.adaptive_max_pool2d(x, 1),
        come="max_pool2d",
    ),
    "whole numbers": _case(make_scalars_float, IMAGE, "", lambda _, x: (x * 2 + 1) / 3 - 4),
    "relu6": _case(name_clamps_alike, IMAGE, "relu6", lambda _, x: functional.relu6(x), come="hardtanh"),
    "clamps": _case(
        name_clamps_alike, IMAGE, "clamp_min clamp_max", lambda _, x: torch.clamp_max(torch.clamp_min(x, 0), 1)
    ),
    "product with a constant": _case(name_linear_layers, ROWS, "matmul", lambda m, x: x @ m.weight, come="linear"),
    "attention": _case(
        multiply_in_batches,
        (2, 3, 5, 4),
        "scaled_dot_product_attention",
        lambda _, x: functional.scaled_dot_product_attention(x, x + 1, x * 0.5),
        come="bmm softmax",
    ),
    "views and splits": _case(
        reduce_to_reshapes_and_slices,
        IMAGE,
        "split unsqueeze squeeze flatten select view unbind",
        lambda _, x: torch.cat([part.unsqueeze(0).squeeze(0).flatten(1) for part in x.chunk(3, 1)], 1) + x[:, 0, 0, :1],
    ),
    "recurrent layers": _case(unroll_recurrent_layers, ROWS, "lstm", lambda m, x: m.lstm(x)[0], come="linear"),
}


def _operators(graph: GraphModule) -> set[str]:
    """Names of all operators and overloads."""
    targets = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    return {word for target in targets for word in str(target).split(".")}


@pytest.mark.parametrize("name", CASES)
def test_a_rewrite_leaves_nothing_of_what_it_is_for_and_changes_no_result(name: str) -> None:
    case = CASES[name]
    torch.manual_seed(3)
    module = settled(Function(case.function))
    given = samples(case.shape)
    graph = capture("small", module, given[0])
    before = _operators(graph)

    case.rewrite(graph)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()

    after = _operators(graph)
    assert not case.gone & after
    assert not case.gone or case.gone & before
    assert case.come <= after
    with torch.no_grad():
        for inputs in given:
            torch.testing.assert_close(graph(*inputs), module(*inputs), rtol=1e-5, atol=1e-5)


def test_weights_that_lie_channels_last_are_stored_in_plain_order() -> None:
    module = settled(nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last))
    given = samples(IMAGE)
    graph = capture("small", module, given[0])

    make_constants_contiguous(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()

    read = [node.target for node in graph.graph.nodes if node.op == "get_attr"]
    assert all(graph.get_parameter(name).is_contiguous() for name in read if hasattr(graph, name) and "." in name)
    assert all(tensor.is_contiguous() for name, tensor in graph.named_buffers() if name in read)
    with torch.no_grad():
        torch.testing.assert_close(graph(*given[0]), module(*given[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "size"),
    [(1, 3, 2, 8), (8, 4, 2, 8), (1, 3, 1, 8), (1, 2, 2, 7)],
    ids=["no multiple of the stride", "enough channels", "no stride", "rows that nobody reads"],
)
def test_an_input_that_gains_nothing_by_blocks_stays_as_it_is(
    channels: int, kernel: int, stride: int, size: int
) -> None:
    layer = nn.Conv2d(channels, 4, kernel, stride, padding=0)
    graph = capture("small", layer.eval(), (torch.randn(1, channels, size, size),))
    fold_constants(graph)
    widen_thin_inputs(graph)
    assert "permute" not in _operators(graph)


@pytest.mark.parametrize(
    ("function", "ranks"),
    [
        (lambda x: x.reshape(2, 3, 2, 4, 4).transpose(1, 2).reshape(2, 6, 4, 4), [4]),
        (lambda x: x.reshape(1, 12, 4, 4).permute(0, 2, 3, 1).reshape(16, 12), [2]),
        (lambda x: x.reshape(2, 3, 2, 16).permute(3, 1, 2, 0).reshape(96, 2), [3]),
        (lambda x: x.reshape(12, 16).t().reshape(2, 6, 4, 4), [2]),
        (lambda x: x.permute(0, 2, 3, 1).reshape(2, 96), [4]),
    ],
    ids=["a shuffle of channels", "channels last", "two that stay side by side", "two axes", "no reshape before"],
)
def test_a_permutation_has_no_more_axes_than_it_needs(
    function: Callable[[torch.Tensor], torch.Tensor], ranks: list[int]
) -> None:
    given = (torch.randn(2, 6, 4, 4),)
    graph = capture("small", Function(lambda _, x: function(x)), given)
    drop_copies(graph)
    reduce_to_reshapes_and_slices(graph)
    turn_few_axes(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()

    turned = [node for node in graph.graph.nodes if str(node.target).startswith(("aten.permute", "aten.t"))]
    assert [node.meta["val"].dim() for node in turned] == ranks
    torch.testing.assert_close(graph(*given), function(*given), rtol=0, atol=0)


def test_every_rewrite_is_tested_by_itself() -> None:
    tested = {case.rewrite for case in CASES.values()}
    tested |= {make_constants_contiguous, fold_scales, widen_thin_inputs, turn_few_axes}
    assert tested >= set(REWRITES)
