"""The fewest instructions that the arithmetic of a model takes, and how near to them an artifact comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from edgeq.records import Artifact

FLOAT_MACS = 4
"""FMLA: four lanes of 32 bits in a vector of 128."""

_INT8_MACS = {"i8mm": 32, "asimddp": 16}
"""SMMLA multiplies 2x8 by 8x2 bytes, SDOT sixteen pairs of bytes; by the feature's name in ``/proc/cpuinfo``."""

_INT8_MACS_OF_ALL = 8
"""SMLAL: eight lanes of 16 bits, which two bytes' product needs."""


def int8_macs(features: Collection[str]) -> int:
    """How many int8 multiply-accumulates one instruction does at most, on a 64-bit Arm core with ``features``."""
    return next((macs for name, macs in _INT8_MACS.items() if name in features), _INT8_MACS_OF_ALL)


def least_instructions(artifact: Artifact, features: Collection[str]) -> int:
    """The instructions of an inference that did nothing but multiply, on vectors that are always full.

    Loads, requantization, activations, the tails of loops come on top in
    any real kernel, so that no artifact reaches it.
    """
    in_int8 = artifact.macs * artifact.int8_mac_share
    return round(in_int8 / int8_macs(features) + (artifact.macs - in_int8) / FLOAT_MACS)
