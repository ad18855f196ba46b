"""What a chroot borrows of this machine to reach its package registries, outside of the Dockerfile.

An engine would have these from its own host or from the network; nothing of
them is in an image afterwards.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from container import NAMESPACES, ChrootError, Mount

# Images of Debian keep neither packages nor caches of their index.
_CLEAN = """\
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""

# What -slim images leave out, by a setting that later packages heed as well.
_SLIM = ("/usr/share/doc", "/usr/share/info", "/usr/share/locale", "/usr/share/man")


def base(image: str, into: Path) -> None:
    """Make ``into`` the root of Debian that ``image`` (``debian:bookworm-DATE-slim``) is, from this machine's mirror.

    The date and a digest are not honoured: it is what the mirror has now.
    """
    found = re.fullmatch(r"debian:(?P<suite>[a-z]+)(?:-\d{8})?(?P<slim>-slim)?(?:@sha256:[0-9a-f]{64})?", image)
    if found is None:
        raise ChrootError(f"{image} is no image of Debian, and no other can be made here")
    if shutil.which("mmdebstrap") is None:
        raise ChrootError("mmdebstrap is missing; run: apt-get install mmdebstrap")
    into.parent.mkdir(parents=True, exist_ok=True)
    part = into.with_name(f"{into.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    # Those of the first packages, which are unpacked before dpkg has a setting, are removed by hand.
    excluded = [f"--dpkgopt=path-exclude={path}/*" for path in _SLIM] if found["slim"] else []
    excluded += [f'--customize-hook=rm -rf "$1{path}"/*' for path in _SLIM] if found["slim"] else []
    _run(
        [
            # What it mounts goes with its namespaces, should it be interrupted: nothing of this machine stays in reach
            # of whoever removes the folder.
            *NAMESPACES,
            *("mmdebstrap", "--variant=apt", "--dpkgopt=force-unsafe-io", *excluded),
            # As debootstrap does it: without the package that would move the files, and bring Perl along.
            *("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", "--include=usr-is-merged"),
            *(found["suite"], str(part), "-"),
        ],
        "\n".join(_sources(found["suite"])),
    )
    for path in (part / "dev").iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (part / "etc/apt/apt.conf.d/docker-clean").write_text(_CLEAN, encoding="utf-8")
    part.rename(into)


def pip_settings() -> tuple[dict[str, str], tuple[Mount, ...]]:
    """This machine's settings of pip as variables, and the local folders and files that they name."""
    listed = _run([sys.executable, "-m", "pip", "config", "list"])
    env, mounts = {}, {}
    for line in listed.splitlines():
        key, _, quoted = line.partition("=")
        value = shlex.split(quoted)[0]
        name = key.removeprefix(":env:.").removeprefix("global.")
        env[f"PIP_{name.upper().replace('-', '_')}"] = value
        for word in value.split():
            # The pages of an index in a folder link to files beside that folder.
            path = Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)
            if path.is_absolute() and path.exists():
                mounts[path] = Mount(source=path.resolve(), at=str(path), read_only=True)
    # A distribution's bundle of authorities would stand in the way of the container's own.
    certificate = env.get("PIP_CERT")
    if certificate:
        del mounts[Path(certificate)]
        env["PIP_CERT"] = "/run/host-authorities.crt"
        mounts[Path(certificate)] = Mount(
            source=Path(certificate).resolve(), at="/run/host-authorities.crt", read_only=True
        )
    return env, tuple(mounts.values())


def _sources(suite: str) -> list[str]:
    """This machine's own sources of Debian's ``suite``, its updates included."""
    targets = _run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT) $(LABEL)", "Created-By: Packages"]
    )
    found = []
    for line in sorted(set(targets.splitlines())):
        address, codename, component, label = line.split(" ", 3)
        if label.startswith("Debian") and codename.partition("-")[0] == suite:
            found.append(f"deb {address} {codename} {component}")
    if not found:
        raise ChrootError(f"this machine's apt knows no {suite} of Debian; is apt-get update done?")
    return found


def _run(argv: list[str], text: str = "") -> str:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChrootError(f"{argv[0]} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
