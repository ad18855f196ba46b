"""How long work says where it is, without knowing who shows it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class Progress(Protocol):
    """Told by a stage what it does now; the command line draws it, a test ignores it."""

    def step(self, text: str) -> None:
        """A new step began, in the words of a person: "calibrating on 64 samples"."""

    def advance(self, done: int, total: int | None = None) -> None:
        """``done`` of ``total`` units of the current step are finished."""


@runtime_checkable
class Asker(Protocol):
    """A :class:`Progress` that a person may sit in front of."""

    def ask(self, question: str) -> str | None:
        """What the person types, unseen; None if nobody is there to be asked."""


class Silent:
    """A listener that shows nothing."""

    def step(self, text: str) -> None:
        """Show nothing."""

    def advance(self, done: int, total: int | None = None) -> None:
        """Show nothing."""


SILENT = Silent()
