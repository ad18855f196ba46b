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


def for_recipe(recipe: Recipe, *, names: Sequence[str], is_layer: bool, is_product: bool) -> Why | None:
    """Why a float node is what ``recipe`` asks for; None if it is not.

    ``names`` are what its ``keep_float`` may call the node, ``is_layer``
    says whether it has constant weights (a recipe names no others) and
    ``is_product`` whether it multiplies two tensors of the model's.
    """
    if is_layer:
        for pattern in recipe.keep_float:
            if any(fnmatchcase(name, pattern) for name in names):
                return Why("excluded-by-recipe", f"{recipe.name} keeps {pattern!r} in float")
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


@dataclass(frozen=True)
class Rewrite:
    """What helps against ``code`` of an operator, in one format or in both ("")."""

    form: Literal["", "pte", "onnx"]
    code: str
    op: str
    said: str
    do: str


REWRITES: tuple[Rewrite, ...] = ()


def rewrite_of(form: Format, op: str, why: Why, source: str) -> str:
    """The first of :data:`REWRITES` that fits; empty if none is known.

    ``said`` of a rewrite has to stand in the reason or in the user's line.
    """
    for one in REWRITES:
        if (
            one.form in ("", form)
            and one.code == why.code
            and fnmatchcase(op, one.op)
            and (one.said in why.sentence or one.said in source)
        ):
            return one.do
    return ""
