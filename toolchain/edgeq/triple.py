"""The kinds of machine that edgeq has a runner for: one literal table, asked wherever they differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from edgeq.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Collection

Triple = Literal["aarch64-linux-gnu", "arm-linux-gnueabihf", "x86_64-linux-gnu"]

TRIPLES: tuple[Triple, ...] = get_args(Triple)

Engine = Literal["executorch", "onnxruntime"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of machine.

    ``machines`` is what ``uname -m`` may say where its programs run: a
    64-bit kernel of Arm runs 32-bit programs as well. ``loader`` is the
    dynamic linker that they name. ``engines`` are the runtimes that a package
    registry has for it, ``activations`` the dtypes of quantized activations
    that its ONNX Runtime computes right. ``glibc`` and ``glibcxx`` are the oldest
    that do for every runner of the kind (a test holds both). ``needs``
    says for a machine which features the runtimes are compiled for, so that
    they end with SIGILL without. ``dot_products`` are features that multiply
    and add several int8 numbers at once, where its kernels use any.
    ``generic`` is the target that fits whatever machine of the kind.
    """

    machines: tuple[str, ...]
    loader: str
    glibc: str
    glibcxx: str
    generic: str
    engines: tuple[Engine, ...] = ENGINES
    activations: tuple[str, ...] = ("int8", "uint8")
    dot_products: tuple[str, ...] = ()
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)


KINDS: dict[Triple, Kind] = {
    "aarch64-linux-gnu": Kind(
        machines=("aarch64",),
        loader="/lib/ld-linux-aarch64.so.1",
        glibc="2.28",
        glibcxx="3.4.22",
        generic="generic-aarch64",
        dot_products=("asimddp", "i8mm"),
    ),
    "arm-linux-gnueabihf": Kind(
        machines=("armv7l", "armv8l", "aarch64"),
        loader="/lib/ld-linux-armhf.so.3",
        glibc="2.34",
        glibcxx="3.4.29",
        generic="generic-armv7",
        engines=("onnxruntime",),
        # int8 ones come out wrong by many steps: ONNX Runtime's own tests fail there (its issue 16387).
        activations=("uint8",),
        needs={"armv7l": ("neon",)},
    ),
    "x86_64-linux-gnu": Kind(
        machines=("x86_64",),
        loader="/lib64/ld-linux-x86-64.so.2",
        glibc="2.28",
        glibcxx="3.4.22",
        generic="host",
        dot_products=("avx512_vnni", "avx_vnni"),
    ),
}


RUNNERS: tuple[tuple[Triple, Engine], ...] = tuple(
    (triple, engine) for triple, kind in KINDS.items() for engine in kind.engines
)
"""Every runner that there is."""


def named(name: str) -> Triple:
    """The triple called ``name``; UnknownNameError if edgeq knows none of that name."""
    for triple in TRIPLES:
        if triple == name:
            return triple
    raise UnknownNameError("triple", name, TRIPLES)


def runnable(machine: str, loaders: Collection[str]) -> tuple[Triple, ...]:
    """The kinds whose programs a machine runs, 64 bits first; where no dynamic linker is told, all of its processor."""
    return tuple(
        triple for triple, kind in KINDS.items() if machine in kind.machines and (not loaders or kind.loader in loaders)
    )
