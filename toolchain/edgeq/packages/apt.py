"""The host's apt, asked for packages of any suite and architecture in a private root.

No root rights are needed and the system's own package state is neither
used nor touched. Of the host's configuration only the mirror, the proxies
and the like (``Acquire::``) and the credentials count.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import DiskFullError, FetchError, MissingToolError, NoDebianMirrorError
from edgeq.files import cache_dir, write_text
from edgeq.packages.locks import LockedDeb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_KEYRINGS = tuple(Path("/usr/share/keyrings") / f"debian-archive-keyring.{kind}" for kind in ("gpg", "pgp"))

_ENDING_OF_DEBIAN = re.compile(r"/debian(/\d{8}T\d{6}Z)?$")

_SOURCES = """\
Types: deb
URIs: {mirror}
Suites: {suite}
Components: main
Signed-By: {keyring}
"""

# APT_CONFIG is read first and names an empty folder for the rest of the
# host's configuration: its hooks, pins and sources have no say here.
_CONFIG = """\
{acquire}
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "{root}/none";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{root}/none";
Dir::Etc::sourcelist "{root}/debian.sources";
Dir::Etc::sourceparts "-";
Dir::State "{root}";
Dir::State::Lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
"""


class AptRoot:
    """A private apt for one suite and architecture, its index as new as the mirror's when made."""

    def __init__(self, suite: str, architecture: str) -> None:
        for tool in ("apt-get", "apt-cache", "apt-config"):
            if shutil.which(tool) is None:
                raise MissingToolError(tool, needed_for="fetching Debian packages", package="apt")
        keyring = next((path for path in _KEYRINGS if path.is_file()), None)
        if keyring is None:
            raise MissingToolError(
                "the keyring of Debian", needed_for="checking Debian packages", package="debian-archive-keyring"
            )
        self._suite = suite
        self._root = cache_dir() / "apt" / f"{suite}-{architecture}"
        for folder in ("lists/partial", "cache/archives/partial", "none"):
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        (self._root / "status").touch()
        write_text(
            self._root / "apt.conf",
            _CONFIG.format(acquire=_host_acquire_options(), architecture=architecture, root=self._root),
        )
        self._read_index(debian_mirrors(), keyring)

    def _read_index(self, mirrors: tuple[str, ...], keyring: Path) -> None:
        """Fetch the index from the first of ``mirrors`` that has one which Debian signed."""
        for position, mirror in enumerate(mirrors, start=1):
            self._mirror = mirror
            text = _SOURCES.format(mirror=mirror, suite=self._suite, keyring=keyring)
            write_text(self._root / "debian.sources", text)
            try:
                # Without the option an unreachable mirror is a warning and an old index is used.
                self._run(
                    ("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"),
                    f"the package index of {self._suite}",
                )
            except FetchError:
                if position == len(mirrors):
                    raise
            else:
                return

    def available(self, names: Iterable[str]) -> dict[str, list[dict[str, str]]]:
        """The entries of the signed index for each of ``names``, newest first; a name it does not know is left out."""
        output = self._run(("apt-cache", "show", *names), "package descriptions", may_fail=True)
        found: dict[str, list[dict[str, str]]] = {}
        for entry in _stanzas(output):
            found.setdefault(entry["Package"], []).append(entry)
        return found

    def download(self, debs: Iterable[LockedDeb], into: Path) -> None:
        """Put the .deb files of ``debs`` in the folder ``into``; apt checks them against its signed index."""
        wanted = [f"{deb.name}={deb.version}" for deb in debs]
        self._run(("apt-get", "-q", "download", *wanted), ", ".join(wanted), cwd=into)

    def _run(self, argv: tuple[str, ...], what: str, *, cwd: Path | None = None, may_fail: bool = False) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._root / "apt.conf"), "LC_ALL": "C"}
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode and not may_fail:
            problem = done.stderr.strip() or done.stdout.strip()
            if "No space left" in problem or "enough free space" in problem:
                raise DiskFullError(self._root)
            raise FetchError(
                "apt",
                what,
                problem,
                hint=f"check the connection to {self._mirror}, or set EDGEQ_DEBIAN_MIRROR to a mirror of Debian "
                f"that carries {self._suite}",
            )
        return done.stdout


def debian_mirrors() -> tuple[str, ...]:
    """Where this machine may get packages of Debian: ``EDGEQ_DEBIAN_MIRROR``, else what its apt sources say.

    An index that apt has already read names its origin. Without one (a
    fresh container) every address that ends in ``/debian``, or in that and
    the moment of a snapshot (``20261120T000000Z``), is a candidate; it may
    be another project's, so each must show Debian's signature.
    """
    configured = os.environ.get("EDGEQ_DEBIAN_MIRROR")
    if configured:
        return (configured,)
    targets = _ask("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages")
    known = [line.partition(" ")[0] for line in targets if line.partition(" ")[2] == "Debian"]
    if known:
        return (known[0],)
    releases = _ask("apt-get", "--print-uris", "update")
    addresses = [line.strip("'").partition("/dists/")[0] for line in releases if "/dists/" in line]
    candidates = tuple(dict.fromkeys(address for address in addresses if _ENDING_OF_DEBIAN.search(address)))
    if not candidates:
        raise NoDebianMirrorError
    return candidates


def _ask(*argv: str) -> list[str]:
    """The lines that a tool of the host's own apt prints; none if it fails."""
    done = subprocess.run(
        argv,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.stdout.splitlines()


def as_locked(entry: Mapping[str, str], suite: str, *, meta: str = "") -> LockedDeb:
    """What the lock says of an entry of the index."""
    return LockedDeb(
        name=entry["Package"],
        version=entry["Version"],
        architecture=entry["Architecture"],
        suite=suite,
        size=int(entry["Size"]),
        sha256=entry["SHA256"],
        meta=meta,
    )


def first_dependency(entry: Mapping[str, str]) -> str:
    """The name of the package that a metapackage stands for."""
    return entry.get("Depends", "").split(",")[0].split("|")[0].split("(")[0].split(":")[0].strip()


def _host_acquire_options() -> str:
    """Proxies, time-outs and other settings of the host for fetching."""
    lines = _ask("apt-config", "dump", "--no-empty")
    return "\n".join(
        line for line in lines if line.startswith("Acquire::") and not line.startswith("Acquire::IndexTargets")
    )


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a Debian control file as key and first line of the value."""
    for paragraph in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" ")
        )
        if "Package" in fields:
            yield fields
