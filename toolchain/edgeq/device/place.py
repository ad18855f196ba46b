"""Whether a folder on a device can hold and start what edgeq puts there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.device.facts import number

if TYPE_CHECKING:
    from edgeq.device.transport import Transport

PLACE_SCRIPT = r"""
LC_ALL=C; export LC_ALL
folder=$1
while [ ! -d "$folder" ]; do
  if [ -e "$folder" ]; then echo "obstacle $folder"; fi
  case $folder in
    /*/*) folder=${folder%/*} ;;
    /*) folder=/ ;;
    */*) folder=${folder%/*} ;;
    *) folder=. ;;
  esac
done
cd -- "$folder" 2>/dev/null || { echo "problem it cannot be entered"; exit 0; }
echo "folder $(pwd)"
df -Pk . 2>/dev/null | tail -n 1 | while read -r _ total _ free _ mount; do
  if [ "${total:-0}" -gt 0 ] 2>/dev/null; then echo "free $free"; fi
  echo "mount $mount"
done
if [ "$folder" = "$1" ]; then
  for part in blobs deployments current; do
    if [ -d "$part" ] && [ ! -w "$part" ]; then echo "problem its folder $part may not be written by this user"; fi
  done
fi
probe=.doctor.$$.edgeq-tmp
trap 'rm -f -- "$probe"' EXIT HUP INT TERM
if said=$( { printf '#!/bin/sh\nexit 0\n' > "$probe"; } 2>&1 ); then
  chmod 755 "$probe"
  if "./$probe" 2>/dev/null; then echo "executes yes"; else echo "executes no"; fi
else
  echo "problem ${said##*: }"
fi
exit 0
"""
"""$1 is the folder; the nearest one above it is tried if it is not there. The program it is tried with is removed."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder for edgeq's files on a device.

    ``existing`` is the folder, or the nearest one above it that is there;
    ``problem`` why nothing can be written in it, empty if it can;
    ``executes`` whether a program in it starts, None if none could be
    written; ``mount`` where its file system is mounted.
    """

    root: str
    existing: str = ""
    mount: str = ""
    free_bytes: int | None = None
    problem: str = ""
    executes: bool | None = None


def read_place(transport: Transport, root: str) -> Place:
    """Try the folder ``root`` of a device (from the user's home unless absolute); nothing is left there."""
    path = root.removeprefix("~/").rstrip("/") or "/"
    done = transport.run(["/bin/sh", "-c", PLACE_SCRIPT, "sh", path], timeout_s=30.0)
    said: dict[str, str] = {}
    for line in done.stdout.decode(errors="replace").splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key, value)
    kilobytes = number(said.get("free", ""))
    obstacle = said.get("obstacle")
    return Place(
        root=root,
        existing=said.get("folder", ""),
        mount=said.get("mount", ""),
        free_bytes=None if kilobytes is None else kilobytes * 1024,
        problem=f"{obstacle} is there and is no folder" if obstacle else said.get("problem", ""),
        executes={"yes": True, "no": False}.get(said.get("executes", "")),
    )
