"""Why a node is not what its recipe asks for, in codes; and what is known to mend it.

====================  =======================================================================
code                  meaning
====================  =======================================================================
no-kernel             the accelerated kernels do not know this operator
dtype                 they know it, for other numbers
dynamic-shape         they know it, for shapes that are settled beforehand
layout                they know it, for another order of dimensions in memory
constraint            they know it, with other arguments
unfused               between quantize and dequantize nodes, of which nothing was fused
float-kernel          accelerated, and known in float alone
no-common-kernel      known in int8 to one of the two runtimes; one graph serves both
float-operands        known in int8, but what stands next to it is float
excluded-by-recipe    the recipe leaves it in float
float-faster          known in int8, and slower so on the target's processor
uint8-input           makes floats of an image's bytes, which the kernels do not take
====================  =======================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.recipe import Recipe
    from edgeq.records import Format


@dataclass(frozen=True)
class Why:
    """A code and a sentence; both empty where there is nothing to tell."""

    code: str = ""
    sentence: str = ""

    def __str__(self) -> str:
        """As the manifest has it."""
        return f"{self.code}: {self.sentence}"


def _kept_by(recipe: Recipe, names: Sequence[str]) -> str:
    """A sentence if ``recipe.keep_float`` matches one of the ``names`` of a layer; else empty."""
    matching = (pattern for pattern in recipe.keep_float if any(fnmatchcase(name, pattern) for name in names))
    return next((f"{recipe.name} keeps {pattern!r} in float" for pattern in matching), "")


def for_recipe(recipe: Recipe, *, names: Sequence[str], is_layer: bool, is_product: bool) -> Why | None:
    """Why a float node is what ``recipe`` asks for; None if it is not.

    ``names`` are what its ``keep_float`` may call the node, ``is_layer``
    says whether it has constant weights (a recipe names no others) and
    ``is_product`` whether it multiplies two tensors of the model's.
    """
    if is_layer and (kept := _kept_by(recipe, names)):
        return Why("excluded-by-recipe", kept)
    if recipe.method == "weight-only":
        return Why("excluded-by-recipe", f"{recipe.name} stores the weights of linear layers in integers, and no more")
    if recipe.method == "dynamic" and is_layer:
        return Why(
            "excluded-by-recipe",
            f"{recipe.name} takes linear, recurrent and plain 2-D layers: there is no such kernel for this one",
        )
    if recipe.method == "dynamic" and not is_product:
        return Why("excluded-by-recipe", f"{recipe.name} leaves what stands between layers in float")
    return None


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """``do`` helps operators called ``op`` (a pattern) left out for ``code`` in ``form``; empty fields fit all.

    ``said`` stands in the reason or in the user's line.
    """

    do: str
    op: str = "*"
    code: str = ""
    form: Literal["", "pte", "onnx"] = ""
    said: str = ""

    def helps(self, form: Format, op: str, why: Why, source: str) -> bool:
        """Whether it is for such a node."""
        return (
            self.form in ("", form)
            and self.code in ("", why.code)
            and fnmatchcase(op, self.op)
            and (self.said in why.sentence or self.said in source)
        )


_TRAIN = "if the model can be trained with it"

REWRITES = (
    Rewrite(
        code="excluded-by-recipe", said=" keeps ", do="take the pattern out of keep_float, if the accuracy allows it"
    ),
    Rewrite(said="float64", code="dtype", form="pte", do="compute in float32: leave .double() out"),
    Rewrite(said="bicubic", form="pte", do=f"interpolate with mode='bilinear', {_TRAIN}"),
    Rewrite(said="roll(", form="pte", do="torch.cat of two slices: torch.cat((x[..., -n:], x[..., :-n]), -1)"),
    Rewrite(said="reflect", form="pte", do=f"pad with zeros, {_TRAIN}"),
    Rewrite(said="softplus(", form="pte", do=f"F.hardswish or torch.relu, {_TRAIN}"),
    Rewrite(
        op="_softmax", code="constraint", form="pte",
        do="move the axis to the end: x.transpose(axis, -1).softmax(-1).transpose(axis, -1)",
    ),
    Rewrite(
        op="_log_softmax", form="pte",
        do="give back the scores, or softmax(-1) of them: the order of the answers is the same",
    ),
    Rewrite(op="avg_pool2d", said="ceil mode", form="pte", do="ceil_mode=False, which leaves the edge out"),
    Rewrite(op="avg_pool2d", said="zero-padding", form="pte", do=f"count_include_pad=False, {_TRAIN}"),
    Rewrite(
        op="upsample_nearest2d", form="pte",
        do="a transposed convolution with stride 2, weights 1 and a group for each channel gives the same, in int8",
    ),
    Rewrite(
        op="cumsum", form="pte",
        do="an nn.Linear with weights torch.ones(n, n).tril() is the same along the last axis, and int8",
    ),
    Rewrite(op="pow", code="constraint", form="pte", do="multiply it out: x * x * x"),
    Rewrite(
        op="slice_copy", said="a step other than 1", form="pte", do="give the stride to the convolution in front of it"
    ),
    Rewrite(
        op="mean", code="constraint", said="innermost", form="pte",
        do="a mean over channels is a 1x1 convolution with weights 1 / channels, and int8",
    ),
    Rewrite(op="amax", form="pte", do="over a whole image, F.max_pool2d(x, (height, width)) is the same, and int8"),
    Rewrite(op="native_group_norm", form="pte", do=f"nn.BatchNorm2d goes into the layer before it, {_TRAIN}"),
    Rewrite(op="InstanceNormalization", form="onnx", do=f"nn.BatchNorm2d goes into the layer before it, {_TRAIN}"),
    Rewrite(
        op="ConvTranspose", code="unfused", form="onnx",
        do=f"F.interpolate(mode='nearest') and a convolution, {_TRAIN}",
    ),
)  # fmt: skip
"""What is known to help; the first that fits counts. ``tests/integration/test_rewrites.py`` has tried each."""


def rewrite_of(form: Format, op: str, why: Why, source: str) -> str:
    """What helps a node; empty if nothing is known, or nothing is wrong."""
    if not why.code:
        return ""
    return next((one.do for one in REWRITES if one.helps(form, op, why, source)), "")
