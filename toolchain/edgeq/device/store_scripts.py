"""What runs in a device's shell for the store: for any POSIX shell, busybox as the only userland included.

What each is given is said below it. Exit codes, and the markers of who is
at work, are those of :mod:`edgeq.device.store`.
"""

from __future__ import annotations

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
