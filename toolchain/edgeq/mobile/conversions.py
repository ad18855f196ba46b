"""What the README of an exported folder says of files that were made of artifacts: what was checked and what not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.mobile.ort_format import REQUIRED_OPERATORS, REQUIRED_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgeq.mobile.content import AppModel
    from edgeq.records import Delegated, OrtFormat

OPERATOR_LISTS = "onnxruntime"
"""The folder of what a build of ONNX Runtime takes; it is no part of the app."""


def section(models: Sequence[AppModel]) -> str:
    """The section in Markdown; empty where all files are the artifacts themselves."""
    lines: list[str] = []
    for model in models:
        if model.ort is not None:
            lines += _about_ort(model, model.ort)
        if model.delegated is not None:
            lines += _about_delegate(model, model.delegated)
    return "\n".join(("", "## How these files were made", *lines, "")) if lines else ""


def _about_ort(model: AppModel, made: OrtFormat) -> Iterator[str]:
    yield f"""
### `{model.file}`

ONNX Runtime's own format, made of `{model.artifact.name}`: all optimizations were applied beforehand, for the CPU of
any phone. It is for a runtime with these operators alone; the ordinary package reads it too. To build such a runtime
give ONNX Runtime's build one of the lists in this folder:

    ./build.sh ... --minimal_build --include_ops_by_config {OPERATOR_LISTS}/{REQUIRED_OPERATORS}

or, for kernels that know the types of this folder's models alone, `{OPERATOR_LISTS}/{REQUIRED_TYPES}` with
`--enable_reduced_operator_type_support`.
"""
    why = f": {made.note}" if made.note else ""
    yield f"- Its outputs on the build machine: {nearness(made)} the `.onnx`'s{why}."
    yield from _told(made.checked, made.unchecked)


def nearness(made: OrtFormat) -> str:
    """How near the .ort's outputs are on the build machine: ``the same bits as``, or so many decibels ``from``."""
    if made.identical:
        return "the same bits as"
    return "not a finite distance from" if made.sqnr_db is None else f"{made.sqnr_db:.1f} dB from"


def _about_delegate(model: AppModel, made: Delegated) -> Iterator[str]:
    also = f"; {made.cpu_mac_share:.1%} XNNPACK's, in {_pieces(made.cpu_partitions)}" if made.cpu_partitions else ""
    yield f"""
### `{model.file}`

Made of `{model.artifact.name}`'s program for {made.backend} ({made.system}), which computes in {made.float_dtype} what
is not in integers. Ship a file for the CPU beside it: not every device loads this one.

- {made.mac_share:.1%} of the multiply-accumulates are the delegate's, in {_pieces(made.partitions)}{also}.
- Its kernels: {", ".join(f"{count} `{name}`" for name, count in made.kernels.items())}."""
    yield from (f"- Not the delegate's: `{row.op}` ({row.node}): {row.reason}." for row in made.undelegated)
    yield from _told(made.checked, made.unchecked)


def _told(checked: Sequence[str], unchecked: Sequence[str]) -> Iterator[str]:
    yield from (f"- Checked: {said}." for said in checked)
    yield from (f"- Not checked: {said}." for said in unchecked)


def _pieces(count: int) -> str:
    return f"{count} piece" if count == 1 else f"{count} pieces"
