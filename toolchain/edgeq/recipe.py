"""Recipes: by name, how a model is made small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeq.errors import UnknownNameError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How weights and activations are quantized.

    ``weights`` and ``activations`` are dtypes at run time; ``per_channel``
    gives each output channel of a weight a scale of its own.
    """

    name: str
    description: str
    method: Literal["none", "static"]
    weights: Literal["float32", "int8"] = "int8"
    activations: Literal["float32", "int8"] = "int8"
    per_channel: bool = True

    @property
    def quantized(self) -> bool:
        """Whether anything is int8 at all."""
        return self.method != "none"


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
    )
}


def named(name: str) -> Recipe:
    """The recipe called ``name``; ConfigError with the nearest match if there is none."""
    try:
        return RECIPES[name]
    except KeyError:
        raise UnknownNameError("recipe", name, RECIPES) from None
