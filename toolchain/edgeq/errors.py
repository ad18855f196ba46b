"""Every error a user can act on, split by who can mend it.

::

    EdgeqError
    |-- ConfigError      2  a file or an argument you can mend
    |-- HostToolError    3  a program on this machine is missing or failed
    |-- DeviceError      4  the board, or the emulator that stands for it
    `-- LimitError       5  it ran and missed a limit: what a CI waits for

Anything else that escapes is a bug of edgeq: a traceback and exit status 1.
A message says what is wrong in one line; ``hint`` is the next step for the
person who reads it; ``detail`` is evidence (the tail of a log, a value).
Subclasses build their message themselves, so that the same fault reads the
same wherever it is met; the command line alone prints it.

The module is long on purpose: messages stay alike when they stand together.
"""

from __future__ import annotations

import difflib
import shlex
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def _word(text: object) -> str:
    """A name or a path as one word of a command that the reader may copy."""
    return shlex.quote(str(text))


class EdgeqError(Exception):
    """The base of every error a user can act on."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail


class ConfigError(EdgeqError):
    """A file or an argument that the user can mend."""

    exit_code = 2


class HostToolError(EdgeqError):
    """A program on this machine is missing or failed."""

    exit_code = 3


class DeviceError(EdgeqError):
    """The device, or the emulator that stands for it, failed."""

    exit_code = 4


class LimitError(EdgeqError):
    """Everything ran, and a limit was missed."""

    exit_code = 5


class UnknownNameError(ConfigError):
    """A name that is not one of a known set."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, where: str = "") -> None:
        names = sorted(known)
        super().__init__(
            f"{where + ': ' if where else ''}unknown {kind} {name!r}",
            hint=did_you_mean(name, names) or f"known: {', '.join(names)}",
        )


class RecipeError(ConfigError):
    """A recipe that says what cannot be done."""

    def __init__(self, recipe: str, reason: str, hint: str) -> None:
        super().__init__(f"recipe {recipe!r}: {reason}", hint=hint)


class BareMetalError(ConfigError):
    """Something that takes a board with Linux, or a phone, was asked of a microcontroller."""

    def __init__(self, target: str) -> None:
        super().__init__(
            f"{target} is a microcontroller: no Linux and no app run there, and edgeq can deploy and measure nothing",
            hint="link the .pte of the build into your firmware; edgeq report and edgeq explain tell what is known of "
            "it without a board (docs/ethos-u.md)",
        )


class MicrocontrollerRecipeError(ConfigError):
    """A recipe whose graph kernels that know static int8 alone cannot take, or that is decided by measurements."""

    def __init__(self, recipe: str, target: str, reason: str) -> None:
        super().__init__(
            f"recipe {recipe!r} cannot be built for {target}: {reason}",
            hint="run: edgeq build PROJECT --recipe int8-static; int8-static-per-tensor and int8-qat are built as well",
        )


class NoChoiceError(ConfigError):
    """Advice on recipes for a target that takes one kind of them."""

    def __init__(self, target: str) -> None:
        super().__init__(
            f"there is nothing to choose for {target}: its kernels take static int8 and nothing else",
            hint=f"run: edgeq build PROJECT --target {_word(target)} --recipe int8-static",
        )


class NoOnnxError(ConfigError):
    """An ONNX file for a target that has no ONNX Runtime."""

    def __init__(self, target: str) -> None:
        super().__init__(
            f"{target} has no ONNX Runtime: an .onnx cannot run there",
            hint=f"run: edgeq build PROJECT --target {_word(target)} --format pte",
        )


class MissingArmToolsError(HostToolError):
    """What ExecuTorch lowers for microcontrollers with is not installed."""

    def __init__(self, missing: Sequence[str], needed: Sequence[str]) -> None:
        super().__init__(
            f"building for a microcontroller needs {' and '.join(missing)}, which edgeq does not find",
            hint=f"run: pip install --no-deps {' '.join(needed)} (with --no-deps: tosa-tools asks for an ml-dtypes "
            "that onnx refuses, and works with the one that is there)",
        )


class VelaSummaryError(HostToolError):
    """Vela compiled, and what it wrote of its estimate is not what edgeq reads."""

    def __init__(self, version: str, reason: str) -> None:
        super().__init__(
            f"the estimate of Vela {version} cannot be read: {reason}",
            hint="install the version that edgeq was tested with: edgeq build names it where another is installed",
        )


class NoOperatorTimesError(ConfigError):
    """A recipe that decides by what operators take on a board, and no measurement that says it."""

    def __init__(self, build: object, target: str, *, form: str = "") -> None:
        what = f"of both its .{form} files as they would be built now" if form else "on a board"
        folder = _word(build)
        super().__init__(
            f"int8-fastest needs the time of each operator on the board, and {build} holds none {what}",
            hint=f"run: edgeq build PROJECT --target {_word(target)} --recipe int8-static --out {folder}, edgeq deploy "
            f"{folder} --device DEV, edgeq bench {folder} --device DEV --profile; then build int8-fastest in the same "
            "place. Emulated times say nothing of a board",
        )


class MissingToolError(HostToolError):
    """A program that edgeq needs is not on this machine."""

    def __init__(self, program: str, *, needed_for: str, package: str) -> None:
        super().__init__(
            f"{program} is not installed; {needed_for} needs it",
            hint=f"install the Debian or Ubuntu package: sudo apt-get install {package}",
        )


class MissingExtraError(HostToolError):
    """An optional part of edgeq that a command needs is not installed."""

    def __init__(self, extra: str, modules: Sequence[str], *, needed_for: str) -> None:
        several = len(modules) > 1
        super().__init__(
            f"{', '.join(modules)} {'are' if several else 'is'} not installed; {needed_for} needs "
            f"{'them' if several else 'it'}",
            hint=f"pip install 'edgeq[{extra}]'"
            + ("" if "onnxruntime" not in modules else "; it takes Python 3.11 or newer, as ONNX Runtime does"),
        )


class DiskFullError(ConfigError):
    """There is no room left where edgeq writes."""

    def __init__(self, path: object, *, needed_bytes: int | None = None) -> None:
        need = f" ({needed_bytes:,} bytes were to be written)" if needed_bytes else ""
        super().__init__(
            f"no space left on the disk that holds {path}{need}",
            hint="free some space, or choose another folder with --out (results) or EDGEQ_CACHE (cache); "
            "what was finished before is still there",
        )


class ScoringStoppedError(HostToolError):
    """The process that runs artifacts beside a build ended before it had answered."""

    def __init__(self, artifact: str, status: int) -> None:
        super().__init__(
            f"the process that runs {artifact} on this machine "
            + (f"was ended by signal {-status}" if status < 0 else f"stopped with status {status}"),
            hint="signal 9 is most often the kernel's, for want of memory: --jobs 1 needs less, in one process",
        )


class LimitRangeError(ConfigError):
    """A limit that no number, or no share, can be held to."""

    def __init__(self, where: str, name: str, value: float, most: float) -> None:
        super().__init__(
            f"{where}: {name} is {value:g}, not a number from 0 to {most:g}",
            hint={
                "max_drop_pp": f"write the percentage points that int8 may lose against fp32: {name} = 0.5",
                "min_accuracy": f"write a share of the labelled samples: {name} = 0.9",
            }.get(name, f"write a share of the multiply-accumulates: {name} = 0.95"),
        )


class LabelsError(ConfigError):
    """Names of classes that cannot be shown, or do not fit the model."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(
            f"{where}: {reason}",
            hint="write one name for each class, in the order of the scores: a list, or a UTF-8 file with one a line",
        )


class BadReferenceError(ConfigError):
    """A ``file.py:function`` or ``package.module:function`` that leads nowhere."""

    def __init__(self, reference: str, reason: str, hint: str = "") -> None:
        super().__init__(
            f"{reference!r} in edgeq.toml cannot be loaded: {reason}",
            hint=hint or 'write "file.py:function" (beside edgeq.toml) or "package.module:function"',
        )


class UserCodeError(ConfigError):
    """A function of the user's project raised."""

    def __init__(self, reference: str, raised: str, line: str) -> None:
        super().__init__(f"{reference} raised {raised}", hint="mend that function and run again", detail=line)


class NotAModelError(ConfigError):
    """A model factory gave something else."""

    def __init__(self, reference: str, got: str) -> None:
        super().__init__(
            f"{reference} returned {got}, not a torch.nn.Module",
            hint="a factory takes no argument and returns the module in eval mode",
        )


class ScriptedModelError(ConfigError):
    """A model that holds TorchScript, which cannot be exported."""

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"{reference} returned a TorchScript module, which torch.export does not take",
            hint="return the torch.nn.Module that it was scripted or traced from, with its weights",
        )


class NonFiniteWeightsError(ConfigError):
    """A weight of the model is NaN or infinite."""

    def __init__(self, reference: str, name: str) -> None:
        super().__init__(
            f"the model of {reference} has NaN or infinity in {name}",
            hint="load a checkpoint that was saved before the training diverged",
        )


class ForwardError(ConfigError):
    """The module does not take the inputs that edgeq.toml states."""

    def __init__(self, reference: str, shapes: str, raised: str, line: str) -> None:
        super().__init__(
            f"the model of {reference} fails on inputs of shape {shapes}: {raised}",
            hint="compare [model] inputs in edgeq.toml with what the module's forward takes",
            detail=line,
        )


class EmptyDatasetError(ConfigError):
    """A data function that yields nothing."""

    def __init__(self, reference: str, *, read_once: bool = False) -> None:
        super().__init__(
            f"{reference} yielded no sample",
            hint="let each call return a new iterator; it gives the same one again, which is used up"
            if read_once
            else "check where it looks for its files",
        )


class SampleError(ConfigError):
    """One sample that does not fit."""

    def __init__(self, reference: str, index: int, what: str, hint: str = "") -> None:
        super().__init__(
            f"sample {index} of {reference} {what}", hint=hint or "compare it with [model] inputs in edgeq.toml"
        )


class NotBytesError(ConfigError):
    """A sample that no image of bytes gives, where artifacts take bytes."""

    def __init__(self, reference: str, index: int, value: float, pixel: float, *, channel: int) -> None:
        super().__init__(
            f"sample {index} of {reference} cannot be handed over as bytes: {value:.6g} in channel {channel} stands "
            f"for a pixel of {pixel:.6g}, not for a whole number from 0 to 255",
            hint="check mean and std under [preprocess] against the function; where it resizes in float, round pixels "
            "to whole numbers before it normalises, as a camera gives them; or leave folded = true out",
        )


class ReadOnceError(ConfigError):
    """A data function whose second call gives nothing."""

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"{reference} gave samples when it was called first, and none when it was called again",
            hint="let each call return a new iterator; one made outside the function is used up after the first pass",
        )


class OneClassError(ConfigError):
    """An evaluation set of a single class."""

    def __init__(self, reference: str, labels: int, label: object) -> None:
        super().__init__(
            f"all {labels} labels of {reference} are {label}: a model that always answers {label} would score 100 %",
            hint="check how it reads its labels; where files are sorted by class, take some of each",
        )


class SamplesAlikeError(ConfigError):
    """Calibration samples that show no range."""

    def __init__(self, reference: str, samples: int, what: str) -> None:
        super().__init__(
            f"all {samples} samples of {reference} are {what}: ranges cannot be observed on them",
            hint="check how it reads its files; calibration needs inputs as various as those of later use",
        )


class NoClassesError(ConfigError):
    """A model whose first output holds no scores of classes, which top-1 needs."""

    def __init__(self, artifact: str, shape: Sequence[int]) -> None:
        super().__init__(
            f"the first output of {artifact} has shape {list(shape)}, without a batch dimension of one: top-1 needs "
            "(batch, classes)",
            hint="let the model's forward return the scores of all classes first, with their batch dimension",
        )


class UnlabelledError(ConfigError):
    """A metric that needs labels, and an evaluation set without any."""

    def __init__(self, reference: str, metric: str) -> None:
        super().__init__(
            f"{reference} gives no label, and the metric {metric!r} needs them",
            hint="yield (inputs, label) with a class number for at least some of the samples",
        )


class NotReplaceableError(ConfigError):
    """The folder a build was to be written to holds something that is no build."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"{path} exists and is no build of edgeq, which would replace it",
            hint="choose another folder with --out, or empty that one",
        )


class NotAnExportError(ConfigError):
    """The folder of an export holds something that no export wrote."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"{path} exists and was not written by edgeq export, which would replace it",
            hint="choose another folder with --out, or empty that one",
        )


class NotForAnAppError(ConfigError):
    """An artifact with a tensor that the exported code cannot carry."""

    def __init__(self, artifact: str, tensor: str, dtype: str, known: Iterable[str]) -> None:
        super().__init__(
            f"{artifact}: {tensor} is {dtype}, and an exported app takes {', '.join(known)}",
            hint="convert it in the model's forward, or leave that artifact out with --artifact",
        )


class AppNameError(ConfigError):
    """A name that the app's language or build tool does not take."""

    def __init__(self, what: str, name: str, reason: str, example: str) -> None:
        super().__init__(f"{what} {name!r} {reason}", hint=f"choose another, such as {example}")


class BackendNotThereError(ConfigError):
    """An artifact that was lowered to a backend which the platform's runtime does not have."""

    def __init__(self, file: str, backend: str, platform: str, known: Iterable[str]) -> None:
        super().__init__(
            f"{file} runs in {backend}, which {platform} does not have; there are {', '.join(known)}",
            hint="leave that file out with --artifact, or export it for another platform",
        )


class NotABuildError(ConfigError):
    """A folder that is not what ``edgeq build`` writes."""

    def __init__(self, path: object, missing: str) -> None:
        super().__init__(f"{path} is not a build: there is no {missing}", hint="run: edgeq build PROJECT")


class NoNumericsError(ConfigError):
    """A build without a record of what quantizing did to its numbers."""

    def __init__(self, build: object, recipes: Iterable[str]) -> None:
        super().__init__(
            f"{build} holds no numerics of {', '.join(recipes)}",
            hint="name a static int8 recipe, the kind that has them; a build made by an older edgeq gets them from "
            "edgeq build PROJECT",
        )


class NotAnSvgError(ConfigError):
    """A plot is asked for in a format that edgeq does not write."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path}: plots are SVG", hint="name a file that ends in .svg; any browser shows it")


class FetchError(HostToolError):
    """A package could not be fetched."""

    def __init__(self, tool: str, what: str, problem: str, *, hint: str) -> None:
        super().__init__(f"{tool} could not fetch {what}", hint=hint, detail=problem)


class WrongHashError(HostToolError):
    """A package came with other bytes than its lock says."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} as offered is not the file that edgeq was tested with: its sha256 differs from the lock",
            hint="do not use it; try another mirror or index, and report it if it stays so",
        )


class PackageNotFoundError(HostToolError):
    """The package index does not know a package."""

    def __init__(self, name: str, suite: str) -> None:
        super().__init__(
            f"the mirror of Debian has no package {name} in {suite}",
            hint=f"set EDGEQ_DEBIAN_MIRROR to a mirror of Debian that carries {suite}",
        )


class NoDebianMirrorError(HostToolError):
    """This machine's apt knows no mirror of Debian."""

    def __init__(self) -> None:
        super().__init__(
            "the apt sources of this machine name no mirror of Debian, which edgeq takes packages for boards from",
            hint="set EDGEQ_DEBIAN_MIRROR to the address of one near you, the part before /dists "
            "(https://www.debian.org/mirror/list)",
        )


class DamagedPackageError(HostToolError):
    """A package file cannot be unpacked."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(
            f"the package {path} cannot be unpacked: {problem}", hint="delete that file; it will be fetched again"
        )


class SshConfigError(ConfigError):
    """A file of the user's SSH configuration cannot be read."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(
            f"{path} cannot be understood: {problem}", hint="mend that line; `ssh -G HOST` shows what it says"
        )


class BadDeviceNameError(ConfigError):
    """A device that is written like an address and is none."""

    def __init__(self, device: str, problem: str) -> None:
        super().__init__(f"device {device!r}: {problem}", hint="write ssh://[user@]host[:port] or adb://SERIAL")


class UnreachableError(DeviceError):
    """No SSH connection to a device could be made."""

    def __init__(self, device: str, where: str, problem: str, *, hint: str) -> None:
        super().__init__(f"cannot connect to {device!r} ({where}): {problem}", hint=hint)


class UnknownHostKeyError(DeviceError):
    """A device whose host key was never accepted."""

    def __init__(self, device: str, *, key_type: str, fingerprint: str, keyscan: str, ssh: str) -> None:
        super().__init__(
            f"the host key of {device!r} is not known here: {key_type} {fingerprint}",
            hint="compare it with `ssh-keygen -lf` of /etc/ssh/ssh_host_*_key.pub on the device; if they are equal "
            f"accept it with `{keyscan}`, or by answering yes to `{ssh}`",
        )


class ChangedHostKeyError(DeviceError):
    """A device that shows another host key than before: another device, or somebody in between."""

    def __init__(self, device: str, *, key_type: str, fingerprint: str, where: str, forget: str) -> None:
        super().__init__(
            f"the host key of {device!r} has changed: it is {key_type} {fingerprint} now, {where} has another",
            hint=f"if you re-installed that device, forget the old key with `{forget}` and accept the new one; "
            "if not, do not go on",
        )


class RevokedHostKeyError(DeviceError):
    """A device that shows a key marked as revoked."""

    def __init__(self, device: str, *, fingerprint: str, where: str) -> None:
        super().__init__(
            f"the host key {fingerprint} of {device!r} is marked @revoked in {where}",
            hint="do not go on; give the device a new host key",
        )


class KeyRefusedError(DeviceError):
    """A device that lets none of the user's keys in."""

    def __init__(self, device: str, user: str, *, tried: Iterable[str], notes: Iterable[str], copy_id: str) -> None:
        tried = list(tried)
        what = f"refused the key{'s' if len(tried) > 1 else ''} {', '.join(tried)}" if tried else "was offered no key"
        super().__init__(
            f"{device!r} {what} for user {user!r}",
            hint=f"put your key there with `{copy_id}`, or name the right one with IdentityFile in ~/.ssh/config",
            detail="\n".join(notes),
        )


class NotAPosixDeviceError(DeviceError):
    """A device that does not answer as Linux does."""

    def __init__(self, device: str, said: str) -> None:
        super().__init__(
            f"{device!r} does not answer `uname -m` through /bin/sh",
            hint="edgeq needs Linux with a POSIX shell on the device",
            detail=said,
        )


class AdbServerAddressError(ConfigError):
    """An address that is no adb server's."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address!r} is not where an adb server listens",
            hint="set ADB_SERVER_SOCKET to tcp:HOST:PORT, or ANDROID_ADB_SERVER_PORT to a number, or neither",
        )


class NoAdbServerError(HostToolError):
    """The server that every Android device is reached through does not run."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(
            f"no adb server answers at {address}, and {problem}",
            hint="install adb (sudo apt-get install adb, or Android's platform-tools), or start its server there",
        )


class AdbServerError(HostToolError):
    """An adb server that does not do what one does."""

    def __init__(self, address: str, problem: str, *, detail: str = "") -> None:
        super().__init__(
            f"the adb server at {address} cannot be used: {problem}",
            hint="run: adb kill-server; adb devices",
            detail=detail,
        )


class WhichAndroidError(ConfigError):
    """More than one Android device, and none was named."""

    def __init__(self, serials: Iterable[str]) -> None:
        names = sorted(serials)
        super().__init__(
            f"{len(names)} Android devices are connected: {', '.join(names)}",
            hint=f"name one: --device adb://{names[0]}, or set ANDROID_SERIAL",
        )


class AndroidNotReadyError(DeviceError):
    """An Android device that is not there, or cannot be used as it is."""

    def __init__(self, device: str, problem: str, hint: str) -> None:
        super().__init__(f"the Android device {device!r} cannot be used: {problem}", hint=hint)


class NoShellError(DeviceError):
    """A device that lets the user in and runs nothing."""

    def __init__(self, device: str, problem: str) -> None:
        super().__init__(
            f"{device!r} does not let a program be run over SSH ({problem})",
            hint="give that user a shell there, without ForceCommand or a forced command in authorized_keys",
        )


class ConnectionLostError(DeviceError):
    """The way to a device broke while it was in use."""

    def __init__(self, device: str, doing: str) -> None:
        super().__init__(
            f"the connection to {device!r} was lost while {doing}",
            hint="check its power and network, then run the command again; what was finished before is kept",
        )


class DeviceSilentError(DeviceError):
    """A program on a device moved nothing for too long."""

    def __init__(self, device: str, program: str, seconds: float) -> None:
        super().__init__(
            f"{program} on {device!r} said nothing for {seconds:g} s",
            hint="check that the device is up and not overloaded, then run the command again",
        )


class DeviceDiskFullError(DeviceError):
    """There is no room left on a device."""

    def __init__(
        self, device: str, path: str, *, needed_bytes: int | None = None, free_bytes: int | None = None
    ) -> None:
        amount = f": {needed_bytes:,} bytes are needed, {free_bytes:,} are free" if needed_bytes is not None else ""
        super().__init__(
            f"no space left on {device!r} for {path}{amount}",
            hint=f"remove old deployments with `edgeq gc --device {_word(device)}`, or set `root` of that device in "
            "devices.toml to a folder on a larger disk",
        )


class DeviceBusyError(DeviceError):
    """Another edgeq uses the store of a device, and does not let go of it."""

    def __init__(self, device: str, root: str) -> None:
        super().__init__(
            f"another edgeq is at work in {root} on {device!r}",
            hint="wait until it is done and run the command again; nothing was changed",
        )


class UnwritableDeviceError(DeviceError):
    """A place on a device that may not be written."""

    def __init__(self, device: str, path: str, problem: str) -> None:
        super().__init__(
            f"{path} on {device!r} cannot be written: {problem}",
            hint="set `root` of that device in ~/.config/edgeq/devices.toml to a folder that its user may write",
        )


class RemoteFileError(DeviceError):
    """A file on a device cannot be read or written."""

    def __init__(self, device: str, path: str, problem: str) -> None:
        super().__init__(f"{path} on {device!r}: {problem}", hint="check that path on the device")


class KeyNameError(ConfigError):
    """A name that cannot be a signing key's."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} cannot be the name of a key",
            hint="use up to 64 letters, digits, dots, dashes and underscores, beginning with a letter or a digit, "
            "and not ending with .pub",
        )


class KeyExistsError(ConfigError):
    """A signing key is to be made where there is one."""

    def __init__(self, name: str, path: object) -> None:
        super().__init__(
            f"there is a key {name!r} already: {path}",
            hint="a key is never overwritten; give the new one another name, or move the old one away yourself",
        )


class UnknownKeyError(ConfigError):
    """A key that is neither known by its name nor a file."""

    def __init__(self, name: str, known: Iterable[str], *, where: str = "") -> None:
        names = sorted(known)
        super().__init__(
            f"{where!r} trusts no key called {name!r}"
            if where
            else f"there is no key {name!r}, nor a file of that name",
            hint=did_you_mean(name, names)
            or (f"known: {', '.join(names)}" if names else "none is known; make one: edgeq keys new NAME"),
        )


class BadKeyFileError(ConfigError):
    """A file that cannot serve as a key."""

    def __init__(self, path: object, problem: str, *, hint: str) -> None:
        super().__init__(f"{path} {problem}", hint=hint)


class UnsafeNameError(ConfigError):
    """A name that no manifest of a deployment may hold."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} cannot stand in the manifest of a deployment",
            hint="names of models, targets and files there are without '/' and control characters, at most 255 bytes, "
            "and not '.' or '..'; give the model another name and build it again",
        )


class UnsignedError(ConfigError):
    """A deployment without a signature for a device that wants one."""

    def __init__(self, device: str, keys: Iterable[str]) -> None:
        super().__init__(
            f"{device!r} takes signed deployments only, and this one is not",
            hint=f"run again with --sign and the key that it trusts ({', '.join(sorted(keys))}); nothing was pushed",
        )


class UntrustedSignerError(ConfigError):
    """A deployment signed by a key that the device does not trust."""

    def __init__(self, device: str, name: str, fingerprint: str, keys: Iterable[str]) -> None:
        super().__init__(
            f"{device!r} does not trust the key {name!r} ({fingerprint})",
            hint=f"it trusts {', '.join(sorted(keys))}: sign with one of these, or run: "
            f"edgeq keys trust {name} --device {_word(device)}; nothing was pushed",
        )


class OlderDeploymentError(ConfigError):
    """A deployment that is older than the active one, on a device that takes signed ones only."""

    def __init__(self, device: str, *, serial: int, active: int) -> None:
        super().__init__(
            f"this build is older than what is active on {device!r}: its serial is {serial}, there it is {active}",
            hint="build anew, or say that you mean to go back with --allow-older; nothing was pushed",
        )


class UnreadableManifestError(ConfigError):
    """The active deployment of a device that takes signed ones only cannot be dated."""

    def __init__(self, device: str, problem: str) -> None:
        super().__init__(
            f"whether this build is older than what is active on {device!r} cannot be told: {problem}",
            hint="say that it may be with --allow-older; nothing was pushed",
        )


class NoEmulationError(ConfigError):
    """A target that no emulated board stands for."""

    def __init__(self, target: str, reason: str) -> None:
        super().__init__(
            f"target {target!r} has no emulated board: {reason}",
            hint="choose another target (edgeq targets lists them), or name a device with --device",
        )


class BadBoardNameError(ConfigError):
    """A name that cannot be a board's."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} cannot be the name of a board",
            hint="use up to 64 letters, digits, dots, dashes and underscores, beginning with a letter or a digit",
        )


class BadListenAddressError(ConfigError):
    """What follows ``--listen`` is no address that a board can listen on."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"a board cannot listen on {text!r}",
            hint="name an IPv4 address of this machine and, if you like, a port: --listen 0.0.0.0:2222",
        )


class NothingToCompareError(ConfigError):
    """Builds without two artifacts that could be held against each other."""

    def __init__(self, builds: Sequence[str]) -> None:
        if len(builds) == 1:
            super().__init__(
                f"of {builds[0]} alone fewer than two artifacts were named",
                hint="name a second build, or two artifacts of this one: --artifact A --artifact B",
            )
        else:
            super().__init__(
                f"{builds[0]} and {', '.join(builds[1:])} have no artifact of one recipe and format",
                hint="build both with one recipe and format: edgeq build PROJECT --recipe NAME --format pte",
            )


class BoardNotRunningError(ConfigError):
    """A board was named that is not there."""

    def __init__(self, name: str, running: Iterable[str]) -> None:
        names = sorted(running)
        super().__init__(
            f"no emulated board called {name!r} is running",
            hint=did_you_mean(name, names)
            or (f"running: {', '.join(names)}" if names else f"start one: edgeq board start {name}"),
        )


class WhichBoardError(ConfigError):
    """``--device board`` without a target, where not exactly one emulated board runs."""

    def __init__(self, running: Sequence[str]) -> None:
        self.running = tuple(running)
        if running:
            super().__init__(
                f"several emulated boards run: {', '.join(running)}",
                hint=f"name one of them: --device board:{running[0]}",
            )
        else:
            super().__init__(
                "no emulated board is running, and one that does not run holds nothing",
                hint="edgeq deploy BUILD --device board starts the one of a build's target",
            )


class BoardDiffersError(ConfigError):
    """A running board has the name that was asked for, and is another machine."""

    def __init__(self, name: str, *, running: str, wanted: str) -> None:
        super().__init__(
            f"the emulated board {name!r} is running as {running}; {wanted} is asked for",
            hint=f"stop it first (edgeq board stop {name}), or give the new one another name",
        )


class BoardImageError(HostToolError):
    """The Debian packages do not hold what a board needs."""

    def __init__(self, pattern: str) -> None:
        super().__init__(
            f"the packages of the emulated board hold no single file {pattern}",
            hint="the locks of the boards and this version of edgeq do not fit each other; install edgeq anew",
        )


class BoardDiedError(DeviceError):
    """The emulated board ended by itself."""

    def __init__(self, name: str, *, cause: str, log_tail: str) -> None:
        super().__init__(
            f"the emulated board {name!r} died: {cause}",
            hint="the last lines of its log may say why; if it was starting, is emulation.cpu a core that QEMU knows, "
            "and what --listen names an address of this machine and a free port?",
            detail=log_tail,
        )


class BoardTimeoutError(DeviceError):
    """The emulated board is there and does not answer."""

    def __init__(self, name: str, *, waiting_for: str, seconds: float, log_tail: str) -> None:
        super().__init__(
            f"the emulated board {name!r} did not answer within {seconds:.0f} s (waiting for {waiting_for})",
            hint="is this machine very busy, or short of memory? The board has been stopped; try again",
            detail=log_tail,
        )


class BoardUnstoppableError(DeviceError):
    """The process of an emulated board would not end."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the emulated board {name!r} could not be stopped",
            hint="its process belongs to another user or container: stop it from there",
        )


class ExportError(ConfigError):
    """torch.export cannot turn the model into a graph."""

    def __init__(self, model: str, reason: str, *, operator: str, source: str, detail: str) -> None:
        at = f" (at {operator})" if operator else ""
        where = f"change the code at {source}" if source else "change the code that the detail names"
        super().__init__(
            f"{model} cannot be exported{at}: {reason}",
            hint=f"{where} so that torch.export takes it: no branches on tensor values, no operators written "
            "outside PyTorch; torch.export.export(module, inputs) alone must succeed",
            detail=detail,
        )


class NoTrainFunctionError(ConfigError):
    """A recipe that trains, and nothing to train with."""

    def __init__(self, recipe: str) -> None:
        super().__init__(
            f"recipe {recipe!r} trains the model, and [data] train is missing in edgeq.toml",
            hint='write train = "train.py:train" under [data], and in train.py a function train(module, steps) that '
            "trains the module it is given, in place, for that many optimizer steps",
        )


class TrainSignatureError(ConfigError):
    """A train function that cannot be called as edgeq calls it."""

    def __init__(self, reference: str, signature: str) -> None:
        super().__init__(
            f"{reference} takes {signature}",
            hint="let it take (module, steps), or (module, steps, learning_rate)",
        )


class TrainingError(ConfigError):
    """A train function that ran, and did not train the module it was given."""

    def __init__(self, reference: str, reason: str, hint: str) -> None:
        super().__init__(f"{reference} {reason}", hint=hint)


class DivergedError(ConfigError):
    """Training that left NaN or infinity in a weight."""

    def __init__(self, reference: str, name: str, step: int) -> None:
        super().__init__(
            f"training by {reference} diverged: {name} is NaN or infinite at step {step}",
            hint="lower the learning rate; [qat] learning_rate in edgeq.toml if the function takes it from there",
        )


class TrainingInputError(ConfigError):
    """A train function that calls the module with inputs that the model does not take."""

    def __init__(self, reference: str, got: str, expected: str) -> None:
        super().__init__(
            f"{reference} calls the module with {got} where [model] inputs says {expected}",
            hint="only the first dimension, the batch, may be another in training",
        )


class NotBatchableError(ConfigError):
    """A model that cannot run on several samples at once, which training needs."""

    def __init__(self, model: str, batch: int, reason: str, *, source: str, detail: str) -> None:
        super().__init__(
            f"{model} cannot be trained on a batch of {batch}: {reason}",
            hint=f"change the code at {source or 'that line'} so that it takes any batch size: view(x.shape[0], ...) "
            "in place of view(1, ...)",
            detail=detail,
        )


class NonFiniteActivationError(ConfigError):
    """A layer gave NaN or infinity for a calibration sample."""

    def __init__(self, layer: str) -> None:
        super().__init__(
            f"the result of {layer} is NaN or infinite for a calibration sample",
            hint="look at that layer with that sample in float; a division by zero, a logarithm or exp() "
            "are the usual causes",
        )


class LoweringError(ConfigError):
    """A quantized graph cannot be turned into a file for a runtime; ``alternative`` is the format that takes it."""

    def __init__(  # noqa: PLR0913  # each part is a sentence of its own
        self, model: str, form: str, reason: str, *, source: str = "", detail: str, alternative: str | None = None
    ) -> None:
        rewrite = f"write {source or 'the operator that the detail names'} with other operators"
        super().__init__(
            f"{model} cannot be turned into .{form}: {reason}",
            hint=f"{rewrite}, or build --format {alternative} alone, which takes it"
            if alternative
            else f"{rewrite}: no other format takes it either",
            detail=detail,
        )


class DelegateError(ConfigError):
    """A program that ExecuTorch does not lower for a delegate, or not to what it should be."""

    def __init__(self, delegate: str, reason: str, *, detail: str = "") -> None:
        super().__init__(
            f"--delegate {delegate}: {reason}",
            hint="name another artifact with --artifact (fp32 asks least of a delegate), or export without --delegate",
            detail=detail,
        )


class DelegatePlatformError(ConfigError):
    """A delegate that the platform of an export does not have."""

    def __init__(self, delegate: str, platform: str, known: Sequence[str]) -> None:
        super().__init__(
            f"--delegate {delegate}: {platform} does not have it", hint=f"{platform} has: {', '.join(known)}"
        )


class FormatWantedError(ConfigError):
    """An option of an export that needs a file of another format than those that were named."""

    def __init__(self, option: str, form: str, known: Sequence[str]) -> None:
        super().__init__(
            f"{option} is made of a .{form}, and none is to be exported",
            hint=f"name one with --artifact: {', '.join(known)}"
            if known
            else f"the build has none: run edgeq build PROJECT --format {form}",
        )


class OperatorListError(HostToolError):
    """ONNX Runtime's own tool does not list the operators that are in a file."""

    def __init__(self, differing: Sequence[str]) -> None:
        super().__init__(
            f"the list that ONNX Runtime's tool writes and its file differ in {', '.join(differing)}",
            hint="export without --ort, or install the onnxruntime that edgeq pins",
        )


class MissingCoreMlError(HostToolError):
    """coremltools is not on this machine, or does not load."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"Core ML models are written by coremltools, which does not load here: {reason}",
            hint="pip install coremltools==9.0 on macOS or x86-64 Linux; it is published for no other machine",
        )


class ArtifactError(ConfigError):
    """A model file that its own runtime does not load or run."""

    def __init__(self, path: object, reason: str, *, detail: str = "") -> None:
        super().__init__(
            f"{path} does not run: {reason}",
            hint="build it again with edgeq build",
            detail=detail,
        )


class BuildFailedError(HostToolError):
    """A compiler refused what edgeq gave it."""

    def __init__(self, what: str, output: str) -> None:
        super().__init__(
            f"{what} cannot be built on this machine",
            hint="cmake 3.22 and g++ 9 or newer are needed; the end of the compiler's output stands above",
            detail=output,
        )


class MissingSourcesError(HostToolError):
    """This installation of edgeq holds neither the runner nor its sources."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"the sources of the native runner are not at {path}",
            hint="install edgeq again from its wheel, or from a checkout with pip install -e .",
        )


_STATUS_HINTS = {
    75: "the model file may be damaged: build and deploy it again",
    126: "it cannot be executed there: the target's processor may be another one, or its file system is "
    "mounted noexec: then set `root` of that device in ~/.config/edgeq/devices.toml to a folder on another one",
    127: "a library or the program itself is missing there: deploy again; its C library may be older than 2.28",
    132: "it met an instruction that the processor there does not have: check the device's emulated or real core",
    134: "the runtime gave up; its last words stand above",
    135: "the model file may have been changed or cut while it was used: deploy it again",
    137: "the kernel killed it, most likely for want of memory: close other programs there or use a smaller model",
    139: "the runtime crashed; the model file may be damaged: build and deploy it again",
    143: "somebody or something on the device ended it",
}

_CODE_HINTS = {
    "bad_arguments": "the runner there may be of another edgeq: deploy again",
    "cannot_load": "the model file may be damaged or from another runtime version: build and deploy it again",
    "missing_operator": "lower the model with a backend that takes that operator, or replace it in the model",
    "missing_backend": "lower the model for XNNPACK, the one backend the runner carries",
    "unsupported": "edgeq runs models whose inputs and outputs are tensors of plain dtypes",
    "short_input": "the connection may have been cut: run the command again",
    "wrong_size": "the build and the samples do not belong together: build again",
    "execution_failed": "run the artifact on this machine (--device local) to see whether it fails here as well",
    "out_of_memory": "close other programs on the device, or use a smaller model",
    "cannot_read": "check the file system of the device",
    "cannot_write": "the connection may have been cut: run the command again",
    "not_signed": "deploy again with --sign and a key that the device trusts (edgeq keys list --device DEV)",
    "tampered": "a file on the device was changed after it was signed: find out by whom, then deploy again",
    "replayed": "build anew, or say that you mean to go back with --allow-older",
    "bad_manifest": "it was signed by another version of edgeq, or by another program: deploy again",
}


def _runner(device: str, model: str) -> str:
    """The runner in a sentence, with the model that it ran, if it was one."""
    return f"the runner on {device!r}" + (f" with {model}" if model else "")


class RunnerFailedError(DeviceError):
    """The runner refused or gave up, and said why. ``code`` is one of ``toolchain/runner/README.md``."""

    def __init__(self, device: str, code: str, message: str, stderr_tail: str = "", *, model: str = "") -> None:
        happened = " ran out of memory" if code == "out_of_memory" else ""
        super().__init__(
            f"{_runner(device, model)}{happened}: {message}",
            hint=_CODE_HINTS.get(code, "deploy again, so that runner and edgeq are of one version"),
            detail=stderr_tail if stderr_tail != message else "",
        )
        self.code = code


class RunnerCrashedError(DeviceError):
    """The runner ended before it reported its last event. ``said`` is its own last sentence, if it had one."""

    def __init__(self, device: str, exit_status: int, stderr_tail: str, *, said: str = "", model: str = "") -> None:
        happened = f"crashed: {said}" if said else f"stopped with status {exit_status}"
        super().__init__(
            f"{_runner(device, model)} {happened}",
            hint=_STATUS_HINTS.get(exit_status, "run the command again with -v; deploy again if it stays so"),
            detail=stderr_tail,
        )
        self.exit_status = exit_status


class RunnerProtocolError(DeviceError):
    """Something on the device answered, and not as a runner does."""

    def __init__(self, device: str, problem: str, stderr_tail: str = "") -> None:
        super().__init__(
            f"the runner on {device!r} does not answer as it should: {problem}",
            hint="deploy again, so that runner and edgeq are of one version",
            detail=stderr_tail,
        )


class CorruptArtifactError(ConfigError):
    """A file of a build that is no longer what its manifest says."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(
            f"{path} {problem}",
            hint="run edgeq build again; nothing was pushed or measured, what is on the device stays",
        )


class NoRuntimeError(ConfigError):
    """An engine that no registry has for a kind of machine; ``target`` is the one that was asked for, if known."""

    def __init__(self, engine: str, triple: str, *, target: str = "TARGET") -> None:
        form, other = ("pte", "onnx") if engine == "executorch" else ("onnx", "pte")
        super().__init__(
            f"no .{form} runs on {triple}: no package registry has {engine} for these machines",
            hint=f"take .{other} alone: --target {_word(target)} --format {other}, "
            f'or formats = ["{other}"] under [build] in edgeq.toml',
        )


class WrongArchitectureError(ConfigError):
    """A device that cannot run what was built; ``fitting`` is a target whose builds it can."""

    def __init__(self, device: str, machine: str, triple: str, *, fitting: str = "") -> None:
        super().__init__(
            f"{device!r} is a machine of kind {machine}; the runner for this target is for {triple}",
            hint="name a device of that kind with --device, or "
            + (
                f"build for this one: edgeq build PROJECT --target {fitting}"
                if fitting
                else "the right target with --target (edgeq targets)"
            ),
        )


class IncompatibleBuildError(ConfigError):
    """A build that a device or its runner cannot run; each mismatch is a pair of what and its remedy."""

    def __init__(self, device: str, mismatches: Sequence[tuple[str, str]]) -> None:
        message, hint, detail = _mismatches(device, mismatches)
        super().__init__(message, hint=hint, detail=detail)


class IncompatibleDeviceError(DeviceError):
    """A device that lacks what a build or its runner needs; each mismatch is a pair of what and its remedy."""

    def __init__(self, device: str, mismatches: Sequence[tuple[str, str]]) -> None:
        message, hint, detail = _mismatches(device, mismatches)
        super().__init__(message, hint=hint, detail=detail)


def _mismatches(device: str, mismatches: Sequence[tuple[str, str]]) -> tuple[str, str, str]:
    """Message, hint and detail: one mismatch is the message itself, several are listed."""
    if len(mismatches) == 1:
        ((what, remedy),) = mismatches
        return f"this build does not fit {device!r}: {what}", f"{remedy}. Nothing was pushed", ""
    return (
        f"this build does not fit {device!r}, for {len(mismatches)} reasons; nothing was pushed",
        "mend each of them, or name another device with --device",
        "\n".join(f"{what}: {remedy}" for what, remedy in mismatches),
    )


class NotDeployedError(ConfigError):
    """A build that was never deployed to a device."""

    def __init__(self, build: object, device: str) -> None:
        super().__init__(
            f"{build} was not deployed to {device!r}",
            hint=f"run: edgeq deploy {_word(build)} --device {_word(device)}",
        )


class StaleDeploymentError(ConfigError):
    """A deployment of an older build."""

    def __init__(self, build: object, device: str, what: str) -> None:
        super().__init__(
            f"what was deployed to {device!r} is not this build any more: {what}",
            hint=f"run: edgeq deploy {_word(build)} --device {_word(device)}",
        )


class DeploymentGoneError(DeviceError):
    """A deployment that a device does not hold any more, or not as it was."""

    def __init__(self, device: str, what: str) -> None:
        super().__init__(
            f"{device!r} does not hold what was deployed there: {what}",
            hint="run edgeq deploy again; an emulated board forgets everything when it stops "
            "(edgeq board start keeps one up, edgeq run does all in one)",
        )


class DamagedTransferError(DeviceError):
    """Files that are not on a device what was sent."""

    def __init__(self, device: str, names: Iterable[str]) -> None:
        super().__init__(
            f"{', '.join(names)} on {device!r} differ from what was sent, twice",
            hint="check the device's storage (dmesg there tells of a failing SD card); "
            "the previous deployment is still active",
        )


class NothingToRollBackError(ConfigError):
    """A model of which a device holds no deployment but the active one."""

    def __init__(self, device: str, name: str) -> None:
        super().__init__(
            f"{device!r} holds no deployment of {name} before the active one",
            hint=f"see what is there with: edgeq deploy --list --device {_word(device)}",
        )


class SeveralTargetsError(ConfigError):
    """A model that a device holds for several targets, named without one."""

    def __init__(self, device: str, model: str, pointers: Iterable[str]) -> None:
        super().__init__(
            f"{device!r} holds {model!r} for several targets", hint=f"name one of {', '.join(sorted(pointers))}"
        )


class DamagedDeploymentError(DeviceError):
    """A deployment whose files are not what was deployed."""

    def __init__(self, device: str, deployment: str, names: Iterable[str]) -> None:
        super().__init__(
            f"deployment {deployment} on {device!r} is damaged: {', '.join(names)}",
            hint="deploy its build again; what was active before still is",
        )


class WrongOutputError(DeviceError):
    """An artifact that computes something else on a device than on the build machine."""

    def __init__(self, device: str, artifact: str, sqnr_db: float) -> None:
        super().__init__(
            f"{artifact} gives another output on {device!r} than on the build machine for the same input: "
            f"{sqnr_db:.1f} dB apart",
            hint="its measurements would mean nothing; try another recipe or format, and compare the runtime's version "
            "and the core's features with those of another device",
        )


class UnfitDeviceError(DeviceError):
    """A device that is too busy, hot, slowed down or short of memory for its times to mean anything."""

    def __init__(self, device: str, reasons: Sequence[str], remedies: Sequence[str]) -> None:
        super().__init__(
            f"{device!r} is not fit to be measured: {'; '.join(reasons)}",
            hint=f"{'; '.join(dict.fromkeys(remedies))}; or say --force: the rows and the report then tell of it",
        )


class NotPinnedError(DeviceError):
    """A device that does not let the runner run on the CPUs that were asked for."""

    def __init__(self, device: str, cpus: Sequence[int], why: str) -> None:
        super().__init__(
            f"{device!r} does not run on the CPUs {','.join(map(str, cpus))}: {why}",
            hint="see which there are: cat /sys/devices/system/cpu/online; grep Cpus_allowed_list /proc/self/status",
        )


class PaceError(ConfigError):
    """A pace of inferences that cannot be kept, or says nothing."""


class NothingToCheckError(ConfigError):
    """A check of a build whose project sets no limits, against nothing else."""

    def __init__(self, build: object) -> None:
        super().__init__(
            f"there is nothing to hold {build} against: its project sets no limits, and no baseline is named",
            hint="write [limits] in edgeq.toml and run edgeq build again, or name a baseline: --against BUILD, "
            "--against FILE (--save FILE writes one), --against history",
        )


class NoBaselineError(ConfigError):
    """What ``--against`` names is no build, no saved baseline and no session of the history."""

    def __init__(self, against: str, reason: str) -> None:
        super().__init__(
            f"{against} is no baseline: {reason}",
            hint="name a BUILD, a file that edgeq check --save wrote, `history`, or history:ID with an ID that "
            "edgeq history shows",
        )


class HistoryError(ConfigError):
    """The history cannot be used; ``place`` shows no password."""

    def __init__(self, place: str, reason: str, hint: str) -> None:
        super().__init__(f"the history in {place} {reason}", hint=hint)


class NoHistoryError(ConfigError):
    """There is no place that a history could be read from."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"there is no history to show: {reason}",
            hint="name a project, or a database with EDGEQ_HISTORY",
        )


class NewerHistoryError(HistoryError):
    """A newer edgeq has written the database."""

    def __init__(self, place: str, found: int, known: int) -> None:
        super().__init__(
            place,
            f"was written by a newer edgeq: its schema is {found}, this one knows {known}",
            hint="update edgeq, or name another place with EDGEQ_HISTORY",
        )


class HistoryDriverError(HostToolError):
    """The Python package that speaks to a database server is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"the history is in PostgreSQL, and the Python package {package} is not installed",
            hint="install it: pip install 'edgeq[postgresql]'",
        )


class CheckFailedError(LimitError):
    """A build misses limits, or is worse than its baseline; ``failed`` gives the evidence of each.

    It is not repeated where it was ``shown`` before.
    """

    def __init__(self, failed: Sequence[str], *, shown: bool) -> None:
        super().__init__(
            f"{len(failed)} of what was checked {'has' if len(failed) == 1 else 'have'} failed",
            hint="mend what made it worse; if it is meant, save a new baseline (edgeq check BUILD --save FILE) or "
            "change [limits] and [check] in edgeq.toml",
            detail="" if shown else "\n".join(failed),
        )


class MissingProgramError(ConfigError):
    """A build without the program that a .pte was lowered from: probes and files for delegates are made of it."""

    def __init__(self, build: object, artifact: str) -> None:
        super().__init__(
            f"{build} does not hold the program that {artifact} was lowered from: an older edgeq made it",
            hint="run: edgeq build PROJECT --rebuild",
        )


class ParityError(LimitError):
    """Artifacts that compute something else on a device; ``diverging`` gives the evidence of each."""

    def __init__(self, diverging: Sequence[str]) -> None:
        count = len(diverging)
        super().__init__(
            f"outputs diverge in {count} comparison{'' if count == 1 else 's'}",
            hint="a kernel computes something else there: try another recipe or format, another version of the "
            "runtime, or keep the named layer in float (keep_float)",
            detail="\n".join(diverging),
        )


class LimitsMissedError(LimitError):
    """What was built or measured misses limits of edgeq.toml; ``missed`` gives the evidence of each."""

    def __init__(self, missed: Sequence[str]) -> None:
        super().__init__(
            f"{len(missed)} of the project's limits {'is' if len(missed) == 1 else 'are'} missed",
            hint="everything was written; mend the model or the recipe, or the numbers under [limits]",
            detail="\n".join(missed),
        )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest of ``known`` as a question, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else ""
