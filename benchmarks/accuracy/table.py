"""The rows of a run as a Markdown table, and what edgeq's own rows show."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from accuracy.scoring import Row

HEAD = ("model", "flow", "file", "top-1 (95 %)", "drop, pp (p)", "same as fp32", "SQNR, dB", "int8 MACs", "build, s")
FLOAT = "fp32"
OURS = "edgeq "
STOCK = "stock PT2E"


def markdown(rows: Sequence[Row]) -> str:
    """One table with a line a row; a model is named in its first line only."""
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    before = ""
    for row in rows:
        lines.append(_line(["" if row.model == before else row.model, *_cells(row)]))
        before = row.model
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> list[str]:
    if row.problem:
        return [row.flow, "", row.problem.replace("|", "/"), *[""] * 5]
    low, high = row.top1_ci95 or (0.0, 1.0)
    top1 = f"{row.correct / row.labelled:.2%} ({low:.1%} to {high:.1%})"
    if row.flow == FLOAT:
        return [row.flow, row.format, top1, *[""] * 5]
    return [
        f"{row.flow}: {row.detail}" if row.detail else row.flow,
        row.format,
        top1,
        f"{row.drop_pp:.2f} ({row.drop_p_value:.2g})",
        f"{row.agree / row.total:.2%}",
        "exact" if row.sqnr_db is None else f"{row.sqnr_db:.1f}",
        f"{row.int8_mac_share:.1%}",
        f"{row.build_seconds:.1f}",
    ]


def verdicts(rows: Sequence[Row], *, max_drop_pp: float = 0.5, least_int8: float = 0.9) -> Iterator[str]:
    """What is not as good as it should be, one sentence each: drops, shares and build times of edgeq's rows.

    A drop above ``max_drop_pp`` counts where a peer loses less.
    """
    for row in rows:
        if row.problem or not row.flow.startswith(OURS):
            continue
        who = f"{row.model}: {row.flow} ({row.format})"
        peers = [peer for peer in _peers(rows, row.model) if peer.int8_mac_share >= least_int8]
        best = min(peers, key=lambda peer: peer.drop_pp or 0.0, default=None)
        if (row.drop_pp or 0.0) > max_drop_pp:
            told = f", {best.flow} {best.drop_pp:.2f}" if best else ""
            yield f"{who} loses {row.drop_pp:.2f} pp{told}"
        if row.int8_mac_share < least_int8:
            yield f"{who} has {row.int8_mac_share:.1%} of its MACs in int8"
        stock = next((peer for peer in peers if peer.flow == STOCK), None)
        if stock and row.format == stock.format:
            ratio = row.build_seconds / stock.build_seconds
            yield f"{who} takes {ratio:.2f} times as long to build as the stock flow"


def _peers(rows: Sequence[Row], model: str) -> list[Row]:
    return [
        row
        for row in rows
        if row.model == model and not row.problem and row.flow != FLOAT and not row.flow.startswith(OURS)
    ]
