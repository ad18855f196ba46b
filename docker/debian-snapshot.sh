#!/bin/sh
# Points apt at Debian's archive as it was at the moment DEBIAN_SNAPSHOT names (20261120T000000Z), so that an image of
# today and one of next year hold the same packages. Empty leaves the sources that the base image came with.
set -eu
[ -n "${DEBIAN_SNAPSHOT:-}" ] || exit 0

# shellcheck source=/dev/null  # the base image's own
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
cat > /etc/apt/sources.list.d/debian.sources <<END
Types: deb
URIs: http://snapshot.debian.org/archive/debian/$DEBIAN_SNAPSHOT
Suites: $suite $suite-updates
Components: main
Check-Valid-Until: no
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://snapshot.debian.org/archive/debian-security/$DEBIAN_SNAPSHOT
Suites: $suite-security
Components: main
Check-Valid-Until: no
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
