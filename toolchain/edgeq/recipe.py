"""Recipes: by name, how a model is made small.

A name may be followed by techniques, each after a plus sign, that change it:
``int8-static+percentile+equalize``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from edgeq.errors import RecipeError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping

Method = Literal["none", "static", "dynamic", "weight-only", "qat", "search"]

Observer = Literal["minmax", "moving-average", "histogram", "percentile", "mse", "entropy"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How weights and activations are quantized.

    ``weights`` and ``activations`` are dtypes at run time; ``per_channel``
    gives each output channel of a weight a scale of its own, ``symmetric``
    puts the zero point of every activation at 0. ``observer`` is the rule
    that turns what calibration saw into a range. ``equalize`` and
    ``smooth`` are None where a static recipe does it if channels are far
    apart and a simulation sees a gain. ``group_size`` is the
    number of int4 weights that share a scale. ``keep_float`` are patterns
    (``*`` and ``?``) of the layers that stay float, by the module's path or
    the node's name; any other operation stays float by its node's whole name.
    """

    name: str
    description: str
    method: Method
    weights: Literal["float32", "int8", "int4"] = "int8"
    activations: Literal["float32", "int8"] = "int8"
    per_channel: bool = True
    symmetric: bool = False
    observer: Observer = "histogram"
    bias_correction: bool = True
    equalize: bool | None = None
    smooth: bool | None = None
    adaround: bool = False
    group_size: int = 32
    keep_float: tuple[str, ...] = ()

    @property
    def quantized(self) -> bool:
        """Whether anything is int8 at all."""
        return self.method != "none"

    @property
    def needs_calibration(self) -> bool:
        """Whether scales of activations come from samples."""
        return self.method in ("static", "qat", "search")


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="fp32",
            description="the float twin every other recipe is compared with",
            method="none",
            weights="float32",
            activations="float32",
        ),
        Recipe(
            name="int8-static",
            description="static PTQ: int8 activations, symmetric int8 weights with a scale for each channel",
            method="static",
        ),
        Recipe(
            name="int8-static-per-tensor",
            description="static PTQ with a single scale for each weight tensor",
            method="static",
            per_channel=False,
        ),
        Recipe(
            name="int8-dynamic",
            description="dynamic PTQ: linear and recurrent layers in int8, ranges of activations taken at run time",
            method="dynamic",
        ),
        Recipe(
            name="int8-weight-only",
            description="linear layers with int8 weights, a scale for each channel",
            method="weight-only",
            activations="float32",
        ),
        Recipe(
            name="int4-weight-only",
            description="linear layers with int4 weights, a scale for each group of 32",
            method="weight-only",
            weights="int4",
            activations="float32",
        ),
        Recipe(
            name="int8-qat",
            description="static int8 of weights that your train function has fitted to being int8",
            method="qat",
        ),
        Recipe(
            name="int8-mixed",
            description="static int8 with as few MACs in float as the accuracy budget needs",
            method="search",
        ),
        Recipe(
            name="int8-fastest",
            description="static int8 with what is faster in float left in float, by times of operators on the device",
            method="search",
        ),
        Recipe(
            name="auto",
            description="the cheapest recipe on the device that keeps the accuracy budget, found by trying",
            method="search",
        ),
    )
}

TECHNIQUES: Mapping[str, Mapping[str, Any]] = {
    "minmax": {"observer": "minmax"},
    "moving-average": {"observer": "moving-average"},
    "histogram": {"observer": "histogram"},
    "percentile": {"observer": "percentile"},
    "mse": {"observer": "mse"},
    "entropy": {"observer": "entropy"},
    "per-channel": {"per_channel": True},
    "per-tensor": {"per_channel": False},
    "symmetric": {"symmetric": True},
    "affine": {"symmetric": False},
    "equalize": {"equalize": True},
    "no-equalize": {"equalize": False},
    "smooth": {"smooth": True},
    "no-smooth": {"smooth": False},
    "adaround": {"adaround": True},
    "bias-correction": {"bias_correction": True},
    "no-bias-correction": {"bias_correction": False},
}
"""What may follow a static recipe's name after a plus sign, and what it changes."""


def named(name: str, own: Mapping[str, Recipe] | None = None) -> Recipe:
    """The recipe called ``name``: one of the project's ``own``, or of edgeq's, with techniques added to either.

    UnknownNameError with the nearest match if a part of the name is
    unknown, RecipeError if a technique does not go with the recipe.
    """
    known = {**RECIPES, **(own or {})}
    base, *techniques = name.split("+")
    if base not in known:
        raise UnknownNameError("recipe", base, known)
    recipe = known[base]
    for technique in techniques:
        if technique not in TECHNIQUES:
            raise UnknownNameError("technique", technique, TECHNIQUES)
        if recipe.method not in ("static", "qat"):
            raise RecipeError(name, f"{base!r} takes no technique", f"write int8-static+{technique}")
        recipe = replace(recipe, **TECHNIQUES[technique])
    return replace(recipe, name=name) if techniques else recipe
