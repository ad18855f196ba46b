"""What edgeq keeps on a device, and how it gets there.

::

    ROOT/blobs/SHA256               content, each once, read-only
    ROOT/deployments/ID/NAME        hard links to blobs: what belongs together, under the names it needs
    ROOT/current/MODEL@TARGET       ids, one a line, the active one first and the ones before it after it

A name ending in ``.PID.edgeq-tmp`` is one half-made; it is removed when the
process PID of the device that was making it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.errors import DeviceDiskFullError, RemoteFileError, UnwritableDeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeq.device.transport import Completed, Transport

_STORE_TIMEOUT_S = 120.0
_EXECUTABLE_MODE = 0o555
_DATA_MODE = 0o444

OPEN_SCRIPT = r"""
LC_ALL=C; export LC_ALL
mkdir -p -- "$1/blobs" "$1/deployments" "$1/current" && cd -- "$1" || exit 11
for left in */.*.edgeq-tmp; do
  maker=${left%.edgeq-tmp}; maker=${maker##*.}
  if [ -e "$left" ] && [ ! -d "/proc/$maker" ]; then rm -rf -- "$left"; fi
done
probe=.probe.$$.edgeq-tmp
: > "blobs/$probe" || exit 11
if ln "blobs/$probe" "deployments/$probe" 2>/dev/null; then echo "links yes"; fi
rm -f -- "blobs/$probe" "deployments/$probe"
df -Pk . 2>/dev/null | tail -n 1 | while read -r _ total _ free _; do
  if [ "${total:-0}" -gt 0 ] 2>/dev/null; then echo "free $free"; fi
done
ls -ln blobs | while read -r _ _ _ _ size _ _ _ name; do if [ -n "$name" ]; then echo "blob $name $size"; fi; done
for folder in deployments/*; do if [ -d "$folder" ]; then echo "deployment ${folder#deployments/}"; fi; done
exit 0
"""
"""$1 is ROOT. Says what is there and removes what was left half-made."""

LINK_SCRIPT = r"""
LC_ALL=C; export LC_ALL
cd -- "$1" || exit 11
id=$2; temporary=deployments/.$2.$$.edgeq-tmp
shift 2
give_up() { rm -rf -- "$temporary"; exit 12; }
mkdir -- "$temporary" || exit 12
while [ $# -gt 0 ]; do
  ln -- "blobs/$2" "$temporary/$1" 2>/dev/null || cp -p -- "blobs/$2" "$temporary/$1" || give_up
  shift 2
done
rm -rf -- "deployments/$id" && mv -- "$temporary" "deployments/$id" || give_up
# Another deploy of the same may have been first: then ours is now inside its folder.
rm -rf -- "deployments/$id/${temporary#deployments/}"
"""
"""$1 is ROOT, $2 the deployment's id, then a name and its blob in turns."""

ACTIVATE_SCRIPT = r"""
LC_ALL=C; export LC_ALL
cd -- "$1/current" || exit 11
temporary=.$2.$$.edgeq-tmp
before=$(grep -vxF -e "$3" -- "$2" 2>/dev/null | head -n 9)
printf '%s\n' "$3" ${before:+"$before"} > "$temporary" && sync && mv -f -- "$temporary" "$2" && exit 0
rm -f -- "$temporary"
exit 12
"""
"""$1 is ROOT, $2 the pointer's name, $3 the id. The sync puts everything before the switch on the disk."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a store holds: blobs with their sizes, deployments, and room for more (None if unknown)."""

    blobs: dict[str, int]
    deployments: frozenset[str]
    links: bool
    free_bytes: int | None


class Store:
    """The files of edgeq on one device, below ``root`` (from the user's home unless absolute)."""

    def __init__(self, transport: Transport, root: str) -> None:
        self._transport = transport
        self.root = root.removeprefix("~/").rstrip("/") or "/"

    def open(self) -> Contents:
        """Make the folders, remove what was left half-made, and look what is there."""
        done = self._script(OPEN_SCRIPT)
        blobs: dict[str, int] = {}
        deployments = set()
        links, free = False, None
        for line in done.stdout.decode(errors="replace").splitlines():
            match line.split():
                case ["blob", name, size]:
                    blobs[name] = int(size)
                case ["deployment", name]:
                    deployments.add(name)
                case ["links", "yes"]:
                    links = True
                case ["free", kilobytes]:
                    free = int(kilobytes) * 1024
        return Contents(blobs=blobs, deployments=frozenset(deployments), links=links, free_bytes=free)

    def push(self, local: Path, sha256: str, *, executable: bool) -> None:
        """Copy one file into the blobs."""
        mode = _EXECUTABLE_MODE if executable else _DATA_MODE
        self._transport.put(local, f"{self.root}/blobs/{sha256}", mode=mode)

    def link(self, deployment: str, files: Mapping[str, str]) -> None:
        """Give the blobs of ``files`` (name to sha256) their names; the folder appears when it is complete."""
        self._script(LINK_SCRIPT, deployment, *(word for pair in sorted(files.items()) for word in pair))

    def activate(self, pointer: str, deployment: str) -> None:
        """Make a deployment the active one, in a single step; the ones before it are remembered."""
        self._script(ACTIVATE_SCRIPT, pointer, deployment)

    def folder(self, deployment: str) -> str:
        """The path of a deployment on the device."""
        return f"{self.root}/deployments/{deployment}"

    def _script(self, script: str, *arguments: str) -> Completed:
        done = self._transport.run(["/bin/sh", "-c", script, "sh", self.root, *arguments], timeout_s=_STORE_TIMEOUT_S)
        if done.status:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            problem = said[-1] if said else f"status {done.status}"
            if "No space left" in problem or "quota exceeded" in problem:
                raise DeviceDiskFullError(self._transport.name, self.root)
            if any(words in problem for words in ("Read-only", "Permission denied", "not permitted")):
                raise UnwritableDeviceError(self._transport.name, self.root, problem)
            raise RemoteFileError(self._transport.name, self.root, problem)
        return done
