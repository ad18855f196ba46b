"""Files that edgeq takes from elsewhere: pinned, hash-checked, cached by their content.

Debian packages come through the host's own apt and its signed indexes
(:mod:`edgeq.packages.debs`), wheels through the user's own pip and its
configuration (:mod:`edgeq.packages.wheels`). What is wanted stands in
``locks/*.toml``, by name and hash; no mirror is named anywhere.
"""

from __future__ import annotations

from edgeq.packages.debs import FetchedDeb, fetch_debs, relock, resolve_debs
from edgeq.packages.unpack import unpack_deb
from edgeq.packages.wheels import fetch_wheel

__all__ = ["FetchedDeb", "fetch_debs", "fetch_wheel", "relock", "resolve_debs", "unpack_deb"]
