"""What edgeq keeps on a device, and how it gets there.

::

    ROOT/blobs/SHA256               content, each once, read-only
    ROOT/blobs/.SHA256.part         the beginning of one whose push was cut, for the next push to go on from
    ROOT/deployments/ID/NAME        hard links to blobs: what belongs together, under the names it needs
    ROOT/deployments/ID/.verified   inode, size and time of each file when their bytes were last hashed
    ROOT/current/MODEL@TARGET       ids, one a line, the active one first and the ones before it after it
    ROOT/.shared.PID.edgeq-tmp      an edgeq that adds to the store, there as long as its shell PID lives
    ROOT/.alone.PID.edgeq-tmp       one that takes away from it
    ROOT/.activate.PID.edgeq-tmp    one that moves a pointer, which takes a moment

Any other name ending in ``.PID.edgeq-tmp`` is something half-made; when the
shell PID that was making it is gone, a blob's is kept as its beginning and
all others are removed.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeq.device.transport import Completed
from edgeq.errors import DeviceBusyError, DeviceDiskFullError, RemoteFileError, UnwritableDeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from edgeq.device.transport import Transport
    from edgeq.progress import Progress

_STORE_TIMEOUT_S = 120.0
_STILL_HERE_S = 10.0
_PATIENCE = 60
"""Seconds that one edgeq waits for another that uses the same store."""

_EXECUTABLE_MODE = 0o555
_DATA_MODE = 0o444
_BUSY = 16

_MARKERS = r"""
LC_ALL=C; export LC_ALL
maker() { maker=${1%.edgeq-tmp}; maker=${maker##*.}; grep -qsF edgeq-tmp "/proc/$maker/cmdline"; }
busy() {
  for other in $1; do
    if [ -e "$other" ] && [ "$other" != "$mine" ]; then
      if maker "$other"; then return 0; fi
      rm -f -- "$other"
    fi
  done
  return 1
}
trap 'rm -f -- "$mine"' EXIT
trap 'exit 10' HUP INT TERM PIPE
"""
"""Whether somebody whose marker fits the patterns $1 is at work; ``mine`` is the own marker, gone with the shell."""

OPEN_SCRIPT = (
    _MARKERS
    + r"""
mine=.$2.$$.edgeq-tmp
mkdir -p -- "$1/blobs" "$1/deployments" "$1/current" && cd -- "$1" || exit 11
case $2 in alone) others=".alone.*.edgeq-tmp .shared.*.edgeq-tmp" ;; *) others=".alone.*.edgeq-tmp" ;; esac
: > "$mine" || exit 11
waited=0
while busy "$others"; do
  rm -f -- "$mine"
  if [ "$waited" -ge "$3" ]; then exit 16; fi
  echo busy
  waited=$((waited + 1)); sleep 1
  : > "$mine" || exit 11
done
for left in */.*.edgeq-tmp; do
  if [ -e "$left" ] && ! maker "$left"; then
    case $left in
      blobs/.probe.*) rm -f -- "$left" ;;
      blobs/*) mv -f -- "$left" "${left%.*.edgeq-tmp}.part" ;;
      *) rm -rf -- "$left" ;;
    esac
  fi
done
probe=.probe.$$.edgeq-tmp
: > "blobs/$probe" || exit 11
if ln "blobs/$probe" "deployments/$probe" 2>/dev/null; then echo "links yes"; fi
rm -f -- "blobs/$probe" "deployments/$probe"
df -Pk . 2>/dev/null | tail -n 1 | while read -r _ total _ free _; do
  if [ "${total:-0}" -gt 0 ] 2>/dev/null; then echo "free $free"; fi
done
ls -ln blobs | while read -r _ _ _ _ size rest; do
  if [ -n "$rest" ]; then echo "blob ${rest##* } $size"; fi
done
size() { stat -c %s -- "$1" 2>/dev/null || wc -c < "$1"; }  # wc may read all of it
for part in blobs/.*.part; do
  if [ ! -e "$part" ]; then continue; fi
  if [ ! -s "$part" ]; then rm -f -- "$part"; continue; fi
  name=${part#blobs/.}; echo "part ${name%.part} $(($(size "$part")))"
done
for folder in deployments/*; do if [ -d "$folder" ]; then echo "deployment ${folder#deployments/}"; fi; done
for pointer in current/*; do
  if [ -f "$pointer" ]; then while read -r id; do echo "pointer ${pointer#current/} $id"; done < "$pointer"; fi
done
echo ready
while read -r _; do :; done
exit 0
"""
)
"""$1 is ROOT, $2 "shared" or "alone", $3 the seconds to wait for others.

Removes what was left half-made, says what is there, then "ready", and keeps
its marker until its input ends. Whoever adds to the store holds "shared",
whoever takes from it "alone": each first shows its marker, then looks for
those that do not go with it, so of two that come at once at most one goes on.
"""

STANDS_SCRIPT = r"""
LC_ALL=C; export LC_ALL
cd -- "$1" 2>/dev/null || exit 0
read -r active 2>/dev/null < "current/$2" || exit 0
[ "$active" = "$3" ] && cd -- "deployments/$3" 2>/dev/null || exit 0
now=$(stat -c '%i %s %Y %n' -- * 2>/dev/null)
noted=$(stat -c %Y .verified 2>/dev/null)
[ -n "$now" ] && [ -n "$noted" ] && [ "$now" = "$(cat .verified)" ] || exit 0
# Times are whole seconds: what was written in the second of the note, or after it, may have been missed by it.
while read -r _ _ time _; do [ "$time" -lt "$noted" ] || exit 0; done <<END
$now
END
echo stands
"""
"""$1 is ROOT, $2 a pointer's name, $3 a deployment. "stands" if it is active and untouched since it was verified."""

LINK_SCRIPT = r"""
LC_ALL=C; export LC_ALL
cd -- "$1" || exit 11
id=$2; again=$3; temporary=deployments/.$2.$$.edgeq-tmp
shift 3
give_up() { rm -rf -- "$temporary"; exit 12; }
mkdir -- "$temporary" || exit 12
while [ $# -gt 0 ]; do
  ln -- "blobs/$2" "$temporary/$1" 2>/dev/null || cp -p -- "blobs/$2" "$temporary/$1" || give_up
  shift 2
done
if [ "$again" = again ]; then rm -rf -- "deployments/$id"; fi
# Another deploy of the same may be first: what it made is what we would have made.
if [ -d "deployments/$id" ]; then rm -rf -- "$temporary"; exit 0; fi
mv -- "$temporary" "deployments/$id" || give_up
rm -rf -- "deployments/$id/${temporary#deployments/}"
"""
"""$1 is ROOT, $2 the deployment's id, $3 "again" if one that is there is wrong, then a name and its blob in turns."""

ACTIVATE_SCRIPT = (
    _MARKERS
    + r"""
mine=.activate.$$.edgeq-tmp
cd -- "$1" || exit 11
( cd -- "deployments/$3" && { stat -c '%i %s %Y %n' -- * > .verified 2>/dev/null || rm -f -- .verified; } ) || exit 11
: > "$mine" || exit 11
waited=0
while busy ".activate.*.edgeq-tmp"; do
  if [ "$maker" -lt "$$" ]; then rm -f -- "$mine"; fi  # of two that came at once one has to stay
  if [ "$waited" -ge "$5" ]; then exit 16; fi
  waited=$((waited + 1)); sleep 1
  : > "$mine" || exit 11
done
active=$(head -n 1 -- "current/$2" 2>/dev/null)
case $active in *[!0-9a-f]*) active= ;; esac
if [ "$4" != any ] && [ "$4" != "$active" ]; then echo moved; exit 0; fi
temporary=current/.$2.$$.edgeq-tmp
before=$(grep -vxF -e "$3" -- "current/$2" 2>/dev/null | head -n 9)
printf '%s\n' "$3" ${before:+"$before"} > "$temporary" && sync && mv -f -- "$temporary" "current/$2" && exit 0
rm -f -- "$temporary"
exit 12
"""
)
"""$1 is ROOT, $2 the pointer's name, $3 the id of what was just verified, $4 the id that is replaced, "any" of
whatever it is, $5 the seconds to wait for others.

"moved" if another one is active, and nothing was done. The sync puts everything before the switch on the disk.
"""

LIST_SCRIPT = r"""
LC_ALL=C; export LC_ALL
cd -- "$1/deployments" || exit 11
for folder in *; do
  if [ -d "$folder" ]; then
    echo "deployment $folder $(stat -c %Y -- "$folder" 2>/dev/null)"
    ls -ln -- "$folder" | while read -r _ _ _ _ size day _ rest; do
      case $day in *-*) ;; *) rest=${rest#* } ;; esac  # toybox writes a date as one word, others as two
      if [ -n "$rest" ]; then echo "file $size $rest"; fi
    done
  fi
done
exit 0
"""
"""$1 is ROOT. Each deployment with the second it was made in, and its files with their sizes."""

GC_SCRIPT = r"""
LC_ALL=C; export LC_ALL
cd -- "$1" || exit 11
links=$2
shift 2
for id in "$@"; do
  mv -- "deployments/$id" "deployments/.$id.$$.edgeq-tmp" && rm -rf -- "deployments/.$id.$$.edgeq-tmp" || exit 12
done
for pointer in current/*; do
  if [ -f "$pointer" ]; then
    temporary=current/.${pointer#current/}.$$.edgeq-tmp
    while read -r id; do if [ -d "deployments/$id" ]; then echo "$id"; fi; done < "$pointer" > "$temporary"
    mv -f -- "$temporary" "$pointer" || exit 12
  fi
done
rm -f -- blobs/.*.part blobs/.*.edgeq-tmp
size() { stat -c %s -- "$1" 2>/dev/null || wc -c < "$1"; }  # wc may read all of it
for blob in blobs/*; do
  if [ -f "$blob" ]; then
    used=
    for file in deployments/*/*; do
      if [ "$blob" -ef "$file" ] || { [ "$links" = no ] && cmp -s -- "$blob" "$file"; }; then used=yes; break; fi
    done
    if [ -z "$used" ]; then size=$(($(size "$blob"))); rm -f -- "$blob" && echo "freed ${blob#blobs/} $size"; fi
  fi
done
exit 0
"""
"""$1 is ROOT, $2 "no" if its file system has no hard links, then the deployments to remove. Nobody else is at work."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a store holds: sizes of blobs, of the beginnings of others, deployments, pointers, and room for more.

    ``pointers`` has the ids of each model, the active one first. ``links``
    says whether the file system has hard links, ``free_bytes`` is None
    where it does not say.
    """

    blobs: dict[str, int] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    deployments: frozenset[str] = frozenset()
    pointers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    links: bool = False
    free_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A deployment as it lies there: its files with their sizes, and the second (Unix time) it was made in."""

    id: str
    made_at: int | None
    files: dict[str, int]


class Store:
    """The files of edgeq on one device, below ``root`` (from the user's home unless absolute)."""

    def __init__(self, transport: Transport, root: str) -> None:
        self._transport = transport
        self.root = root.removeprefix("~/").rstrip("/") or "/"

    @contextlib.contextmanager
    def opened(self, progress: Progress, *, alone: bool = False, patience_s: int = _PATIENCE) -> Iterator[Contents]:
        """What is there, after removing what was left half-made; while the block runs, nothing is taken away.

        Others may add to the store meanwhile unless this is to be
        ``alone``. Raises DeviceBusyError when others do not let go within
        ``patience_s``.
        """
        arguments = [self.root, "alone" if alone else "shared", str(patience_s)]
        held = _Held(self._transport, ["/bin/sh", "-c", OPEN_SCRIPT, "sh", *arguments])
        try:
            text = held.wait_until_ready(progress)
            if text is None:
                self._fail(held.let_go())
            else:
                yield _contents(text)
        finally:
            held.let_go()

    def stands(self, pointer: str, deployment: str) -> bool:
        """Whether that deployment is the active one, and no file of it was touched since it was verified."""
        return self._script(STANDS_SCRIPT, pointer, deployment).stdout == b"stands\n"

    def push(self, local: Path, sha256: str, *, executable: bool, start: int = 0) -> None:
        """Copy one file into the blobs, from byte ``start`` on if so much of it is there."""
        mode = _EXECUTABLE_MODE if executable else _DATA_MODE
        self._transport.put(local, f"{self.root}/blobs/{sha256}", mode=mode, start=start)

    def link(self, deployment: str, files: Mapping[str, str], *, again: bool = False) -> None:
        """Give the blobs of ``files`` (name to sha256) their names; the folder appears when it is complete.

        One that is there stays, unless it is to be made ``again``.
        """
        words = (word for pair in sorted(files.items()) for word in pair)
        self._script(LINK_SCRIPT, deployment, "again" if again else "", *words)

    def activate(self, pointer: str, deployment: str, *, after: str | None = None) -> bool:
        """Make a deployment that was just verified the active one, in a single step; those before are remembered.

        With ``after``, the id of the active one or "" for none, only if that
        is still so: False, and nothing is done, if another became active.
        """
        expected = "any" if after is None else after
        return self._script(ACTIVATE_SCRIPT, pointer, deployment, expected, str(_PATIENCE)).stdout != b"moved\n"

    def list(self) -> tuple[Listed, ...]:
        """Every deployment with its files."""
        made: dict[str, int | None] = {}
        files: dict[str, dict[str, int]] = {}
        for line in self._script(LIST_SCRIPT).stdout.decode(errors="replace").splitlines():
            kind, _, rest = line.partition(" ")
            first, _, last = rest.partition(" ")
            if kind == "deployment":
                deployment = first
                made[deployment], files[deployment] = int(last) if last.isdecimal() else None, {}
            elif kind == "file":
                files[deployment][last] = int(first)
        return tuple(Listed(id=one, made_at=when, files=files[one]) for one, when in made.items())

    def remove(self, deployments: Sequence[str], *, links: bool) -> dict[str, int]:
        """Remove deployments, then blobs that none is left of; the blobs with their sizes. The caller is alone."""
        done = self._script(GC_SCRIPT, "yes" if links else "no", *deployments)
        lines = (line.split() for line in done.stdout.decode(errors="replace").splitlines())
        return {words[1]: int(words[2]) for words in lines if words[:1] == ["freed"]}

    def folder(self, deployment: str) -> str:
        """The path of a deployment on the device."""
        return f"{self.root}/deployments/{deployment}"

    def _script(self, script: str, *arguments: str) -> Completed:
        done = self._transport.run(["/bin/sh", "-c", script, "sh", self.root, *arguments], timeout_s=_STORE_TIMEOUT_S)
        if done.status:
            self._fail(done)
        return done

    def _fail(self, done: Completed) -> None:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        problem = said[-1] if said else f"status {done.status}"
        if done.status == _BUSY:
            raise DeviceBusyError(self._transport.name, self.root)
        if "No space left" in problem or "quota exceeded" in problem:
            raise DeviceDiskFullError(self._transport.name, self.root)
        if any(words in problem for words in ("Read-only", "Permission denied", "not permitted")):
            raise UnwritableDeviceError(self._transport.name, self.root, problem)
        raise RemoteFileError(self._transport.name, self.root, problem)


def _contents(text: str) -> Contents:
    blobs: dict[str, int] = {}
    parts: dict[str, int] = {}
    deployments = set()
    pointers: dict[str, tuple[str, ...]] = {}
    links, free = False, None
    for line in text.splitlines():
        match line.split():
            case ["blob", name, size]:
                blobs[name] = int(size)
            case ["part", name, size]:
                parts[name] = int(size)
            case ["deployment", name]:
                deployments.add(name)
            case ["pointer", name, deployment]:
                pointers[name] = (*pointers.get(name, ()), deployment)
            case ["links", "yes"]:
                links = True
            case ["free", kilobytes]:
                free = int(kilobytes) * 1024
    return Contents(
        blobs=blobs,
        parts=parts,
        deployments=frozenset(deployments),
        pointers={name: tuple(one for one in ids if one in deployments) for name, ids in pointers.items()},
        links=links,
        free_bytes=free,
    )


class _Held:
    """A shell on the device that keeps its marker until it is let go of."""

    def __init__(self, transport: Transport, argv: Sequence[str]) -> None:
        self._said = bytearray()
        self._heard = threading.Condition()
        self._over = threading.Event()
        self._done: Completed | None = None
        self._failure: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, args=(transport, argv), daemon=True)
        self._thread.start()

    def wait_until_ready(self, progress: Progress) -> str | None:
        """What the shell said until it was ready; None if it ended before."""
        told = False
        with self._heard:
            while not self._ended and not self._said.endswith(b"ready\n"):
                self._heard.wait(1.0)
                if not told and b"busy\n" in self._said:
                    progress.step("waiting for another edgeq that uses the device")
                    told = True
            return self._said.decode(errors="replace") if self._said.endswith(b"ready\n") else None

    def let_go(self) -> Completed:
        """End the shell; how it ended. Raises what stood in the way, once."""
        self._over.set()
        self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return self._done or Completed(status=0, stdout=b"", stderr=b"")

    def _run(self, transport: Transport, argv: Sequence[str]) -> None:
        try:
            self._done = transport.run(argv, stdin=self._still_here(), on_stdout=self._hear, timeout_s=_STORE_TIMEOUT_S)
        except BaseException as error:  # noqa: BLE001  # raised again by who waits
            self._failure = error
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    def _still_here(self) -> Iterator[bytes]:
        """A line now and then, so that a long push is no silence."""
        while not self._over.wait(_STILL_HERE_S):
            yield b"\n"

    def _hear(self, chunk: bytes) -> None:
        with self._heard:
            self._said += chunk
            self._heard.notify_all()
