from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

from edgeq.quiet import quietly

if TYPE_CHECKING:
    import pytest


def test_warnings_and_log_records_are_kept_back_inside_the_block_alone(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("a library")

    with quietly():
        warnings.warn("to its developers", stacklevel=1)
        logger.warning("to its developers")
    logger.warning("to all")

    assert [record.message for record in caplog.records] == ["to all"]


def test_an_error_that_is_logged_is_never_kept_back(caplog: pytest.LogCaptureFixture) -> None:
    with quietly():
        logging.getLogger("a library").error("broken")

    assert [record.message for record in caplog.records] == ["broken"]


def test_what_was_disabled_before_stays_so() -> None:
    logging.disable(logging.CRITICAL)
    try:
        with quietly():
            pass
        assert logging.root.manager.disable == logging.CRITICAL
    finally:
        logging.disable(logging.NOTSET)
