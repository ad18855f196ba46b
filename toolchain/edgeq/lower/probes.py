"""What a probe is: an artifact's program with results of its layers as further outputs.

Whether it computes what the artifact computes is for its caller to see, in
the outputs that both have: an output that was added can keep a runtime from
fusing what stands around it.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.records import Layer, NotProbed


@dataclass(frozen=True, kw_only=True)
class Point:
    """A result that a probe gives as its output ``value``: a further one, or one that the artifact has anyway.

    Where it is integers, a real value is (integer - ``zero_point``) * ``scale``; ``scale`` is None for floats.
    """

    layer: Layer
    value: str
    scale: float | None = None
    zero_point: int = 0


@dataclass(frozen=True, kw_only=True)
class Points:
    """What can be looked at in an artifact, in the order in which it is computed, and what cannot.

    ``outputs`` are the names of the outputs that the artifact has; those of a
    probe follow in the order of ``points``.
    """

    outputs: tuple[str, ...]
    points: tuple[Point, ...]
    not_probed: tuple[NotProbed, ...]
