"""Keeping what other people's libraries say to their own developers from the user."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def quietly(*, errors: bool = False) -> Iterator[None]:
    """No Python warnings and no log records below ERROR inside the block, nor of ERROR if ``errors`` are raised too."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.ERROR if errors else logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
