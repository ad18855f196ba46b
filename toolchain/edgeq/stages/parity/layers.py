"""Which layer of an artifact is the first that two machines compute otherwise.

One probe gives the results of all layers at once. Where that probe does not
compute what the artifact computes, because an output keeps the runtime from
fusing what stands around it, the first diverging layer is found by
bisection, with probes of one layer each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.records import LayerParity, LayerSearch, NotProbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from edgeq.records import Layer


_MOST_PROBES = 30
"""Of one layer each: to find one of a thousand takes ten, unless many cannot be probed."""


class UnfaithfulError(Exception):
    """Raised by a probe that cannot be made or run, or computes something else than its artifact; says why."""


def search(
    layers: Sequence[Layer],
    probe: Callable[[Sequence[int]], Sequence[LayerParity]],
    *,
    sample: int | None,
    not_probed: Iterable[NotProbed] = (),
    notes: Iterable[str] = (),
) -> LayerSearch:
    """Find the first layer of ``layers``, in the order of computation, whose results diverge.

    ``probe(indices)`` compares the layers of those indices, ascending; it
    raises :class:`UnfaithfulError` where that cannot be done.
    """
    found: dict[int, LayerParity] = {}
    reasons: dict[int, str] = {}
    said = list(notes)
    try:
        found.update(enumerate(probe(range(len(layers)))))
    except UnfaithfulError as error:
        said.append(f"not all layers can be looked at in one file ({error}): the first was found by bisection")
        _bisect(len(layers), probe, found, reasons)
    first = next((index for index in sorted(found) if found[index].diverges), len(layers))
    before = max((index for index in found if index < first), default=-1)
    compared = [found[index] for index in sorted(found)]
    return LayerSearch(
        sample=sample,
        layers=tuple(compared),
        first_differing=next((one.layer.node for one in compared if not one.identical), ""),
        first_diverging=layers[first].node if first < len(layers) else "",
        between=tuple(layers[index] for index in range(before + 1, first)),
        not_probed=(
            *not_probed,
            *(NotProbed(layer=layers[index], reason=reason) for index, reason in sorted(reasons.items())),
        ),
        notes=tuple(said),
    )


def _bisect(
    count: int,
    probe: Callable[[Sequence[int]], Sequence[LayerParity]],
    found: dict[int, LayerParity],
    reasons: dict[int, str],
) -> None:
    """Narrow down where the first diverging layer is; one that cannot be probed is passed over for its neighbour."""
    tried = 0
    low, high = 0, count  # it is one of low..high; high diverges, or is behind the last layer
    while low < high:
        middle = (low + high) // 2
        for index in sorted(range(low, high), key=lambda one: abs(one - middle)):
            if index in reasons:
                continue
            if tried == _MOST_PROBES:
                return
            tried += 1
            try:
                (found[index],) = probe([index])
            except UnfaithfulError as error:
                reasons[index] = str(error)
            else:
                break
        else:
            return
        low, high = (low, index) if found[index].diverges else (index + 1, high)
