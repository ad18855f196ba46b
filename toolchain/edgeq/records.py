"""What edgeq writes to disk, so that each command can run on another day and machine.

========================================  ==========================
record                                    where
========================================  ==========================
:class:`Manifest` of :class:`Artifact`    BUILD/manifest.json
:class:`Deployment`                       BUILD/deployments/DEVICE.json
:class:`Measurement`                      BUILD/measurements.jsonl
:class:`Comparison`                       BUILD/comparisons.jsonl
:class:`Report` of :class:`ReportRow`     BUILD/report.json
:class:`Numerics`                         BUILD/numerics/RECIPE.json
:class:`Inputs`                           BUILD/inputs.json
:class:`OperatorMap`                      BUILD/operators/ARTIFACT.json
:class:`Nodes` of :class:`NodeFacts`      BUILD/nodes/ARTIFACT.json
:class:`Origin`                           BUILD/origin.json
:class:`Baseline` of :class:`Observation`  a file of your own, and the history
:class:`Parity` of :class:`ParityRow`     BUILD/parity.json
:class:`Export` of :class:`ExportedFile`  export.json in what ``edgeq export`` writes
========================================  ==========================

Raw samples and counts are stored; medians, percentages and intervals are
derived from them by :mod:`edgeq.stats`. Units are in the names. A value that
was not measured is ``None``, never a guess.

The module is long on purpose: whoever asks what is on disk finds all of it
in one list, each record beside those that it is made of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from edgeq.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

Timing = Literal["hardware", "emulated", "host"]
"""Whose clock ran: a real board's, an emulator's (no latency), or the build machine's."""

Format = Literal["pte", "onnx"]

Outcome = Literal["met", "missed", "cannot tell"]

FORMATS: tuple[Format, ...] = ("pte", "onnx")

Mode = Literal["back-to-back", "single-shot", "at-rate"]
"""When inferences begin: one after the other, each after a pause, or when samples arrive, done with or not."""

Arrivals = Literal["poisson", "even"]
"""Whether the times between samples are exponential, or all alike."""

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output: its name, shape and numpy dtype name (``float32``)."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Undelegated:
    """A node that runs outside the accelerated kernels, and why."""

    node: str
    op: str
    reason: str
    mac_share: float
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class HostScore:
    """What the artifact did on the evaluation set, in its own runtime on the build machine.

    ``agree`` counts the samples whose top-1 equals that of the fp32
    artifact of the same format; ``sqnr_db`` compares its outputs with that
    twin's; both are None for the twin itself, and ``sqnr_db`` where there
    is no ratio: for ``identical`` outputs, and where one of the two is not
    finite. ``correct`` counts among the ``labelled`` of the ``total``
    samples, ``not_finite`` those with NaN or infinity in the output.
    """

    metric: str
    correct: int | None
    labelled: int
    total: int
    agree: int | None
    sqnr_db: float | None
    identical: bool = False
    not_finite: int = 0
    scored: str = ""
    """What was run in the artifact's place, which this machine cannot run; empty where it was the artifact itself."""


@dataclass(frozen=True, kw_only=True)
class NpuEstimate:
    """What Vela, Arm's compiler for the Ethos-U, expects of one inference on the NPU. Nothing here was measured.

    ``by`` names Vela with its version. ``clock_hz`` is what
    ``system_config`` assumes, ``cycles`` are all of them with the waiting
    for memory, ``compute_cycles`` those of the NPU alone.
    ``mac_utilisation`` is the part of the MACs that the NPU could do in
    ``cycles``. The bytes are what lies in each memory, weights and
    activations. The ``outside`` operators run on the core: no cycle of them
    is counted.
    """

    by: str
    accelerator: str
    system_config: str
    memory_mode: str
    clock_hz: int
    cycles: int
    compute_cycles: int
    inferences_per_second: float
    macs: int
    mac_utilisation: float
    sram_bytes: int
    dram_bytes: int
    on_chip_flash_bytes: int
    off_chip_flash_bytes: int
    partitions: int
    outside: int


@dataclass(frozen=True, kw_only=True)
class Requires:
    """What the artifact needs on a device."""

    runtime: Literal["executorch", "onnxruntime"]
    version: str
    ops: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    glibc: str = ""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """One input and this artifact's output for it.

    Kept as BUILD/golden/SHA256.bin: raw little-endian tensors, concatenated.
    """

    input_sha256: str
    output_sha256: str


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """What an app must do to its image before the model: subtract ``mean``, divide by ``std``, in ``layout``.

    Where that is ``folded`` into the artifact nothing is left: means are 0
    and stds are 1, and the input is the image's bytes.
    """

    layout: Literal["NCHW", "NHWC"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class FoldedInput:
    """A normalisation that an artifact does itself: its input is uint8, and a byte stands for (byte - mean) / std.

    ``form`` says what became of it. ``read``: one scale and zero point of the
    read bytes hold it; nothing was added to the model. ``absorbed``: the
    weights and biases of the first convolutions hold it. ``subtracted``: the
    means are subtracted from the image, as those convolutions pad with
    zeros; their weights hold the stds. ``computed``: the image is normalised
    in float.
    """

    layout: Literal["NCHW", "NHWC"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    form: Literal["read", "absorbed", "subtracted", "computed"]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file for a runtime, and how it came to be.

    A device whose output for the golden input is less than
    ``least_sqnr_db`` from the golden output does not run this model:
    another core rounds differently, which leaves more than 25 dB between the
    int8 outputs of two machines; a kernel that is wrong leaves none.
    ``output_scales`` has, for each output, the step that its values are
    multiples of where it is read from int8, else None; it is empty in builds
    of an edgeq that did not write it. ``estimate`` is there for a file that
    an NPU runs; where ``host.scored`` says that something else was run in
    the artifact's place, the golden output is that one's.
    """

    name: str
    format: Format
    recipe: str
    sha256: str
    size_bytes: int
    macs: int
    int8_mac_share: float
    delegated_mac_share: float
    partitions: int
    undelegated: tuple[Undelegated, ...]
    host: HostScore
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocess: Preprocess | None
    requires: Requires
    golden: Golden
    least_sqnr_db: float = 10.0
    folded: FoldedInput | None = None
    output_scales: tuple[float | None, ...] = ()
    estimate: NpuEstimate | None = None


@dataclass(frozen=True, kw_only=True)
class CalibrationData:
    """A fingerprint of the samples the scales came from.

    ``sha256`` is over all that were read, ``samples`` counts those that were
    run. ``offered`` is how many there are, where that is known;
    ``converged_after`` how many had been run when the ranges stopped moving,
    from where on a few were run to see whether they do, None if they never
    stopped.
    """

    sha256: str
    samples: int
    offered: int | None = None
    converged_after: int | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationData:
    """The evaluation set as kept in the build.

    ``inputs`` are .npy files of shape (samples, *input shape without its
    batch dimension), one for each model input; ``labels`` an int64 .npy of
    shape (samples,), or None; ``host_outputs`` maps an artifact's name to a
    float32 .npy of its first output, (samples, ...). Paths are relative to
    the build. ``note`` says in a sentence what the samples are.
    """

    samples: int
    metric: str
    inputs: tuple[str, ...]
    labels: str | None
    host_outputs: dict[str, str]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class CrossCheck:
    """How the two formats of one recipe agree on the host.

    ``sqnr_db`` is None for ``identical`` outputs, and where one is not finite.
    """

    recipe: str
    agree: int
    total: int
    sqnr_db: float | None
    identical: bool = False


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One recipe that a search tried, scored as an artifact in its own runtime on the build machine.

    ``recipe`` is a name with its techniques and ``keep_float`` the layers
    that stayed float. ``drop_pp`` is positive when it is worse than fp32 on
    the same samples; the p-value is McNemar's. ``float_macs``, the
    multiply-accumulates left in float, and ``size_bytes`` are its cost.
    ``sqnr_db`` is None for outputs ``identical`` to fp32's, and where one is
    not finite.
    Of a step that was ``skipped`` only ``why`` is known; of one that
    ``failed``, such as a train function that raises, also the ``error``.
    """

    recipe: str
    keep_float: tuple[str, ...] = ()
    why: str
    outcome: Literal["met", "missed", "skipped", "failed"]
    error: str = ""
    correct: int | None = None
    labelled: int = 0
    drop_pp: float | None = None
    drop_ci95_pp: tuple[float, float] | None = None
    drop_p_value: float | None = None
    agree: int | None = None
    total: int = 0
    sqnr_db: float | None = None
    identical: bool = False
    int8_mac_share: float | None = None
    float_macs: int | None = None
    size_bytes: int | None = None
    seconds: float = 0.0
    resumed: bool = False


@dataclass(frozen=True, kw_only=True)
class Search:
    """How the recipe ``name`` (``auto``, ``int8-mixed``) came to what it is.

    ``format`` is the one whose artifacts were tried. ``chosen`` is the
    recipe of the trial that was taken, ``reason`` the evidence. ``outcome``
    is "met" when its drop on the labelled samples is within the budget;
    else "cannot tell" when they are too few to show such a drop and it may
    be chance, or "missed".
    """

    name: str
    max_drop_pp: float
    seed: int
    format: Format
    outcome: Outcome
    chosen: str
    keep_float: tuple[str, ...]
    reason: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True, kw_only=True)
class OperationCost:
    """What an operation took in either precision, in nanoseconds of one inference, and in which it is to run."""

    node: str
    module: str
    source: str
    float_ns: int
    int8_ns: int
    runs_in: Literal["float", "int8"]


@dataclass(frozen=True, kw_only=True)
class SpeedTrial:
    """An artifact that was considered for its speed.

    ``predicted_ns`` is the sum of what was measured of its operations and of
    conversions; ``median_ns`` of timed inferences, interleaved with all
    others of the search, None where it was not timed. ``over_fp32`` and
    ``over_int8`` are the twins' medians over this one's, with a 95 %
    interval, None for the twin itself.
    """

    recipe: str
    float_nodes: tuple[str, ...] = ()
    why: str
    predicted_ns: int | None = None
    median_ns: int | None = None
    over_fp32: tuple[float, float, float] | None = None
    over_int8: tuple[float, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class SpeedSearch:
    """How ``int8-fastest`` came to what it is in one ``format``: from times of operators on ``device``.

    ``outcome`` is "met" if the artifact was timed and is faster than both
    twins, "missed" if none was and ``chosen`` is the faster twin's recipe,
    "cannot tell" if it could not be timed from here. A conversion takes
    ``conversion_ns`` and so many nanoseconds for each element.
    """

    name: str
    format: Format
    device: str
    timing: Timing
    threads: int
    outcome: Outcome
    chosen: str
    float_nodes: tuple[str, ...]
    reason: str
    conversion_ns: float
    quantize_ns_per_element: float
    dequantize_ns_per_element: float
    layout_ns_per_element: float
    costs: tuple[OperationCost, ...]
    trials: tuple[SpeedTrial, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The table of contents of a build; ``measurable`` says whether edgeq can run it on a device of its target."""

    schema: int = SCHEMA
    model: str
    target: str
    created_at: str
    tools: dict[str, str]
    calibration: CalibrationData | None
    evaluation: EvaluationData
    artifacts: tuple[Artifact, ...]
    cross_checks: tuple[CrossCheck, ...] = ()
    findings: tuple[str, ...] = ()
    limits: Limits | None = None
    tolerances: Tolerances | None = None
    searches: tuple[Search, ...] = ()
    speed_searches: tuple[SpeedSearch, ...] = ()
    labels: tuple[str, ...] = ()
    """What the classes are called, in the order of the first output's scores; () where the project does not say."""
    measurable: bool = True

    def chosen(self, names: Sequence[str]) -> tuple[Artifact, ...]:
        """The artifacts of those names or recipes, in the order of ``names``; all without any.

        UnknownNameError for a name that is neither.
        """
        found: dict[str, Artifact] = {}
        for name in names or [one.name for one in self.artifacts]:
            mine = {one.name: one for one in self.artifacts if name in {one.name, one.recipe}}
            if not mine:
                raise UnknownNameError("artifact", name, (one.name for one in self.artifacts))
            found |= mine
        return tuple(found.values())


Bound: TypeAlias = float | dict[str, float] | None
"""A limit of every quantized artifact, or one for each recipe or artifact that is named; None is none."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a build or a measurement must meet; None is no limit. ``max_partitions`` is for .pte files alone.

    The clock of ``max_p50_ms`` and ``max_p99_ms`` is the target's own.
    """

    max_drop_pp: float | None = None
    min_int8_mac_share: float | None = None
    min_delegated_mac_share: float | None = None
    max_partitions: int | None = None
    never_slower: bool = False
    max_p50_ms: Bound = None
    max_p99_ms: Bound = None
    max_instructions: Bound = None
    max_peak_rss_bytes: Bound = None
    max_size_bytes: Bound = None
    min_accuracy: Bound = None


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """``[check]``: how far a figure may move from its baseline before that counts as a change.

    Percent of the baseline's value, or percentage points. Latency and
    accuracy have noise, and have to leave that as well; retired instructions
    have none above 0.1 %, the size and the shares of a file none at all.
    """

    latency_percent: float = 2.0
    instructions_percent: float = 0.5
    peak_rss_percent: float = 5.0
    size_percent: float = 1.0
    accuracy_pp: float = 0.5
    mac_share_pp: float = 0.1


@dataclass(frozen=True, kw_only=True)
class DeviceFacts:
    """What a device said of itself; an empty string or None where it could not be read.

    ``libstdcxx`` is the newest version of GLIBCXX that its C++ library has
    ("3.4.30"), ``loaders`` the dynamic linkers that stand at their usual
    places; ``max_mhz`` is what its fastest core can do. ``available_bytes``
    and ``swap_free_bytes`` were free in RAM and swap when it was asked.
    """

    model: str = ""
    machine: str = ""
    cpu: str = ""
    features: tuple[str, ...] = ()
    cores: int | None = None
    kernel: str = ""
    libc: str = ""
    governor: str = ""
    ram_bytes: int | None = None
    emulated: bool = False
    libstdcxx: str = ""
    loaders: tuple[str, ...] = ()
    max_mhz: int | None = None
    available_bytes: int | None = None
    swap_bytes: int | None = None
    swap_free_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class BusyProcess:
    """A process that was computing; ``share`` is of one core's time, 2.0 for two cores."""

    pid: int
    name: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Clock:
    """One frequency domain of the cores, in MHz: what it runs at, may run at, and could run at."""

    name: str
    governor: str = ""
    mhz: int | None = None
    limit_mhz: int | None = None
    max_mhz: int | None = None


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """How a device was doing at one moment; None and () where it does not say.

    ``celsius`` is the hottest zone of the processor. ``throttled_bits`` are
    those of a Raspberry Pi's firmware; ``throttled`` says whether it, or the
    kernel's thermal governor, slows the cores down now. ``load`` is the
    average number of runnable tasks over a minute, ``cpu_share`` the part of
    all cores' time that was used while ``busy``, the processes above a
    twentieth of a core, were watched. ``clock_skew_s`` is how far its clock is ahead
    of this machine's, at least.
    """

    celsius: float | None = None
    throttled: bool | None = None
    throttled_bits: int | None = None
    clocks: tuple[Clock, ...] = ()
    available_bytes: int | None = None
    swap_free_bytes: int | None = None
    load: float | None = None
    cpu_share: float | None = None
    busy: tuple[BusyProcess, ...] = ()
    clock_skew_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Signed:
    """Who signed a deployment. A device takes none with a lower ``serial`` after it.

    ``verified`` is whether the runner on the device found the signature to be
    of a key that is trusted there; where none is trusted there is nothing to
    hold it against.
    """

    key: str
    fingerprint: str
    serial: int
    verified: bool


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What lies where on a device.

    ``files`` maps a name inside the deployment's folder to the sha256 of
    its content. ``root`` is that folder's path on the device. ``warnings``
    are sentences on what is not as the build would have it.
    """

    schema: int = SCHEMA
    id: str
    model: str
    target: str
    device: str
    device_facts: DeviceFacts
    root: str
    files: dict[str, str]
    artifacts: dict[str, str]
    runners: dict[str, str]
    deployed_at: str
    signed: Signed | None = None
    warnings: tuple[str, ...] = ()
    runtime_bytes: dict[str, int] = field(default_factory=dict)
    """The size of each engine's runner and libraries; empty in a record of an edgeq that did not note it."""


@dataclass(frozen=True, kw_only=True)
class FileOperator:
    """One operator of an artifact's file, and what it was made of.

    In an .onnx ``name`` is the node's and ``outputs`` the names of its
    values. In a .pte ``name`` is the operator's (``mean.out``) or, in the
    ``partition`` of that number, the type of the XNNPACK node. ``node`` is
    the one of the simplified float graph that it was made of, empty for what
    a lowering added of its own; ``module`` and ``source`` are where that is
    in the user's model. ``op`` is the type of the node, of both formats
    "QuantizeLinear" or "DequantizeLinear" for a conversion. The ``node`` of
    one of an .onnx is what gives the floats, or the first that reads them.
    ``elements`` are the result's, 0 where not known.
    """

    name: str
    op: str
    elements: int = 0
    outputs: tuple[str, ...] = ()
    partition: int | None = None
    node: str = ""
    module: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class OperatorMap:
    """The operators of one artifact in the order of its file, to tell a profile of it in the user's words."""

    schema: int = SCHEMA
    artifact: str
    operators: tuple[FileOperator, ...]


@dataclass(frozen=True, kw_only=True)
class OpTime:
    """Time spent in one operator over one inference, in order of execution.

    ``name`` is the operator's own, ``kernel`` the runtime's name of what
    computed it. ``delegated`` says whether it ran in the runtime's
    accelerated kernels: for a .pte inside of a delegate. ``ns`` is the
    interquartile mean over the profiled inferences. ``node``, ``module`` and
    ``source`` are those of :class:`FileOperator`, empty where not known.
    What no operator took is one with ``kind`` "unattributed", what a
    delegate's call took beside its operators one with "delegate call".
    ``op`` is the type of the file's operator, ``elements`` those of its
    result, or of its input where that is not known. ``instructions`` are
    what it retires in one inference that is not profiled, None where nobody
    can tell: on a real board, in a runtime whose profiler works inside of
    what it times, and for a delegate's call, which "unattributed" then holds.
    """

    name: str
    ns: int
    delegated: bool
    instructions: int | None = None
    kernel: str = ""
    kind: Literal["operator", "delegate call", "unattributed"] = "operator"
    op: str = ""
    elements: int = 0
    node: str = ""
    module: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class ThreadsTried:
    """A few runs of an artifact with one number of threads, in turn with its other numbers and artifacts: raw."""

    threads: int
    latencies_ns: tuple[int, ...]
    rounds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class LeakCheck:
    """What a process held in memory that no file stands behind, after so many ``runs`` of one model: raw.

    ``grew_bytes`` is from the first look to the last.
    """

    runs: tuple[int, ...]
    anonymous_bytes: tuple[int, ...]
    grew_bytes: int
    verdict: Literal["grows", "does not grow", "cannot tell"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One artifact, measured once on one device: raw.

    ``latencies_ns`` holds every timed run in order; ``rounds`` says how
    many of them each interleaved visit contributed. ``instructions`` is
    retired user-space instructions for one inference (median), from the
    PMU of an emulated core. ``total`` counts the evaluation samples run on
    the device, ``correct`` those right among the ``labelled`` ones,
    ``agree_fp32`` those whose top-1 equals the fp32 twin's, and
    ``agreement_with_host`` those whose top-1 equals the host's for the same
    artifact. ``tried`` holds the runs that ``threads`` was chosen by; empty
    where the number was set, or one is all there is.
    ``ops`` and ``profiled_ns``, the time of each profiled inference, come
    from runs apart from those of ``latencies_ns``: to be profiled takes time
    itself. How much tell the ``unprofiled_ns``, which were timed in turn
    with them, in as many ``profiled_rounds``, and ``profiled_instructions``
    of one. ``pushed_bytes`` is all that a device needs to run this artifact:
    its file, the runner and the runtime.

    In ``mode`` "at-rate" a latency counts from when its sample arrived, and
    ``executions_ns`` holds the execution alone; else the two are one and it
    is (). ``spans_ns`` is how long each round took, from its first timed
    run's start to its last one's end. ``before_ns`` holds every run before
    the timed ones: the first and the ``warmup`` ones of each round, in order.
    """

    schema: int = SCHEMA
    id: str
    artifact: str
    artifact_sha256: str
    device: str
    device_facts: DeviceFacts
    timing: Timing
    threads: int
    warmup: int
    latencies_ns: tuple[int, ...]
    rounds: tuple[int, ...]
    load_ns: int
    first_ns: int
    instructions: int | None
    peak_rss_bytes: int | None
    planned_bytes: int | None
    correct: int | None
    agree_fp32: int | None
    agreement_with_host: int | None
    labelled: int
    total: int
    predictions: tuple[int, ...] = ()
    ops: tuple[OpTime, ...] = ()
    tried: tuple[ThreadsTried, ...] = ()
    profiled_ns: tuple[int, ...] = ()
    unprofiled_ns: tuple[int, ...] = ()
    profiled_rounds: tuple[int, ...] = ()
    profiled_instructions: int | None = None
    pushed_bytes: int | None = None
    celsius: tuple[float | None, float | None] = (None, None)
    throttled: bool | None = None
    states: tuple[DeviceState, ...] = ()
    """Before the first timed run of the session, at the start of each round, and after the last; () in rows of an
    edgeq that did not ask, two in those of one that did so only before and after."""
    started_at: str
    runner_sha256: str
    session: str
    """Rows of one session were measured interleaved and may be compared."""
    mode: Mode = "back-to-back"
    pause_ms: int | None = None
    rate_hz: float | None = None
    arrivals: Arrivals | None = None
    executions_ns: tuple[int, ...] = ()
    spans_ns: tuple[int, ...] = ()
    before_ns: tuple[int, ...] = ()
    steady_after: int | None = None
    """After how many runs, the first not counted, a fresh process did not change its level any more; None if it was not
    found, or not looked for."""
    steady_search_ns: tuple[tuple[int, ...], ...] = ()
    """The runs of the visits that it was looked for in; () where it was not."""
    cold_start_ns: int | None = None
    """From the start of the program to the end of the first inference, without the wait for its sample."""
    cpus: tuple[int, ...] = ()
    """Where the runner was allowed to run."""
    pinning: str = ""
    """Why there: what was chosen, or why nothing was."""
    mhz: tuple[int | None, ...] = ()
    """What the core of the last run of each round ran at, right after it."""
    unfit: tuple[str, ...] = ()
    """Why the device was not fit for a measurement, which was made all the same."""
    load_rss_bytes: int | None = None
    """What loading the model added to the resident set, pages of its file and of libraries included."""
    load_anonymous_bytes: int | None = None
    """The part of it that no file stands behind: packed weights, arenas as far as touched, the runtime's own."""
    leak: LeakCheck | None = None
    test_faults: bool = False
    """Whether a build of the runner measured that tests can make slow: nothing may be decided by it then."""


Verdict = Literal["faster", "slower", "same", "cannot tell"]


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """Latency of the fp32 twin over this artifact's, from interleaved rounds, with a 95 % interval.

    ``reason`` says why there is no better verdict than "cannot tell".
    """

    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ComparedSide:
    """One of the two artifacts of a comparison, with all that was timed of it.

    ``latencies_ns`` holds every timed run in order, ``rounds`` how many of
    them each round has. Both are empty for an emulated board.
    """

    build: str
    artifact: str
    artifact_sha256: str
    recipe: str
    runner_sha256: str
    latencies_ns: tuple[int, ...]
    rounds: tuple[int, ...]
    steady_after: int | None
    p50_ms: float | None
    instructions: int | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two artifacts that took turns on one device in one session.

    ``ratio`` is the median latency of ``reference`` over that of
    ``candidate``, above 1 where the candidate is faster, with a 95 %
    interval from ``low`` to ``high``; ``verdict`` is "same" within
    ``same_within``. ``smallest_effect`` is the relative difference that so
    noisy a session shows in 80 of 100 cases. ``instructions_ratio`` is that
    of retired instructions, ``cost`` what it says; both only for an emulated
    board. ``reason`` says why there is no better verdict.
    """

    schema: int = SCHEMA
    session: str
    artifact: str
    device: str
    device_facts: DeviceFacts
    timing: Timing
    threads: int
    reference: ComparedSide
    candidate: ComparedSide
    same_within: float
    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    smallest_effect: float | None
    instructions_ratio: float | None
    cost: Literal["fewer", "more", "same", "cannot tell"]
    reason: str = ""
    unfit: tuple[str, ...] = ()
    test_faults: bool = False
    states: tuple[DeviceState, ...] = ()
    started_at: str


@dataclass(frozen=True, kw_only=True)
class ThreadsRow:
    """The median of the few runs with one number of threads."""

    threads: int
    p50_ms: float


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """What became of the ``samples`` of one class.

    ``lost`` were right in fp32 alone, ``gained`` in the quantized artifact
    alone. ``p_value`` is McNemar's, exact, corrected for the number of
    classes that were looked at (Holm).
    """

    label: int
    samples: int
    lost: int
    gained: int
    p_value: float


@dataclass(frozen=True, kw_only=True)
class ClassChanges:
    """How the classes of the labelled samples fare against fp32.

    Of ``classes`` with a sample ``worse`` lost more than they gained,
    ``significant`` of them by more than chance. ``worst`` are the few that lost most.
    """

    classes: int
    worse: int
    significant: int
    worst: tuple[ClassChange, ...]


@dataclass(frozen=True, kw_only=True)
class SamplesNeeded:
    """How many labelled samples it takes to see a drop of ``drop_pp`` percentage points.

    ``at_best`` could show it if all that differ were lost; ``usually`` find
    it four times of five, if as many as here are right in one of the two
    alone: ``differing``, a share.
    """

    drop_pp: float
    at_best: int
    usually: int
    differing: float


@dataclass(frozen=True, kw_only=True)
class ProfilingCost:
    """Profiled inferences over others, timed in turn: 1.05 is 5 % more. The interval is 95 %, None where there is none.

    ``of`` says whether that is time or instructions, which are exact.
    """

    ratio: float
    low: float | None
    high: float | None
    of: Literal["time", "instructions"]


@dataclass(frozen=True, kw_only=True)
class ReportedOperator:
    """One operator of :class:`OpTime` as a report shows it; ``amount`` of the profile's unit, None if not known."""

    name: str
    kernel: str
    kind: Literal["operator", "delegate call", "unattributed"]
    node: str
    module: str
    source: str
    amount: int | None


@dataclass(frozen=True, kw_only=True)
class ReportedProfile:
    """What the operators of an artifact take, in order of execution.

    Decided by ``unit``: nanoseconds of a real clock, or instructions where
    the clock is an emulator's, whose times are left out. None where not even
    those are known; ``missing`` then says why. ``inferences`` were profiled.
    """

    unit: Literal["ns", "instructions"] | None
    ops: tuple[ReportedOperator, ...]
    inferences: int
    cost: ProfilingCost | None
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """One artifact on one device, as a person reads it; ``device`` and ``timing`` are None when it was not measured.

    Every ``_ms`` is None in an emulated row. ``accuracy`` is ``correct`` of
    ``labelled``; agreements are shares of ``samples``. ``size_ratio`` is the
    fp32 twin's size over this one's. ``drop_pp`` is in percentage points
    and positive when the artifact is worse than its fp32 twin on the same
    samples; ``drop_p_value`` is McNemar's, exact. ``threads`` is the number
    that was fastest of ``threads_tried``. ``recommended`` marks the one
    artifact of a device with a clock that :class:`Recommendation` names.
    ``least_instructions`` are the fewest that its MACs take with the device's
    instruction set, ``instruction_limit_share`` those over ``instructions``:
    1 would be nothing but multiplying. ``pushed_bytes`` is all that a
    device needs to run it: the file, the runner and the runtime.
    """

    build: str
    artifact: str
    format: Format
    recipe: str
    device: str | None
    timing: Timing | None
    measured_at: str | None
    threads: int | None
    runs: int
    size_bytes: int
    size_ratio: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    ci95_ms: tuple[float, float] | None
    speedup_vs_fp32: Speedup
    instructions: int | None
    load_ms: float | None
    first_ms: float | None
    peak_rss_bytes: int | None
    planned_bytes: int | None
    correct: int | None
    labelled: int
    accuracy: float | None
    accuracy_ci95: tuple[float, float] | None
    samples: int
    drop_pp: float | None
    drop_ci95_pp: tuple[float, float] | None
    drop_p_value: float | None
    fp32_agreement: float | None
    host_agreement: float | None
    macs: int
    int8_mac_share: float
    delegated_mac_share: float
    partitions: int
    undelegated: tuple[Undelegated, ...]
    host: HostScore
    threads_tried: tuple[ThreadsRow, ...] = ()
    cold_start_ms: float | None = None
    per_second: float | None = None
    """Inferences a second, one right after the other."""
    steady_after: int | None = None
    load_anonymous_bytes: int | None = None
    leak: LeakCheck | None = None
    recommended: bool = False
    least_instructions: int | None = None
    instruction_limit_share: float | None = None
    pushed_bytes: int | None = None
    p90_ci95_ms: tuple[float, float] | None = None
    p99_ci95_ms: tuple[float, float] | None = None
    class_changes: ClassChanges | None = None
    samples_needed: SamplesNeeded | None = None
    profile: ReportedProfile | None = None
    unfit: tuple[str, ...] = ()
    """Why the device was not fit to be timed; it was measured all the same, as somebody said ``--force``."""
    verdicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    estimate: NpuEstimate | None = None
    """Vela's, not a measurement: no other figure of a row and no verdict comes of it."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One limit held against one artifact: ``text`` gives the evidence in a sentence."""

    build: str
    artifact: str
    device: str | None
    limit: str
    outcome: Outcome
    text: str


@dataclass(frozen=True, kw_only=True)
class OpenQuestion:
    """What the measurements so far cannot tell, and the commands that would."""

    question: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The fastest artifact on one device that nothing speaks against: runtime x precision x threads.

    All fields but ``device``, ``timing``, ``of_target`` and ``reason`` are
    None where nobody can tell, as on an emulated board. ``of_target`` says
    whether the clock is the target's own; another's is named as such in
    ``reason``, the evidence in a sentence. ``p50_ms`` is its median latency.
    """

    device: str
    timing: Timing
    of_target: bool
    artifact: str | None
    runtime: Literal["executorch", "onnxruntime"] | None
    recipe: str | None
    threads: int | None
    p50_ms: float | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to ship, on what evidence, and what nobody knows yet: plain words over the rows."""

    headline: str
    evidence: tuple[str, ...]
    open_questions: tuple[OpenQuestion, ...]
    recommendations: tuple[Recommendation, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReportedDevice:
    """A device that rows of a build came from."""

    name: str
    timing: Timing
    facts: DeviceFacts


@dataclass(frozen=True, kw_only=True)
class PacedRow:
    """Latencies of one artifact at another pace than one inference right after the other.

    At a rate they count from when a sample arrived, so the wait for those
    before it is in them. ``busy_share`` is the part of the time that an
    inference ran; from about 1 on the device cannot keep up, and the
    latencies are those of a queue that grows as long as one looks.
    """

    artifact: str
    device: str
    timing: Timing
    mode: Mode
    pause_ms: int | None
    rate_hz: float | None
    arrivals: Arrivals | None
    threads: int
    runs: int
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    ci95_ms: tuple[float, float] | None
    busy_share: float | None
    measured_at: str
    p90_ci95_ms: tuple[float, float] | None = None
    p99_ci95_ms: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReportedBuild:
    """Where the rows of one build come from; ``build`` is its folder as the user named it."""

    build: str
    model: str
    target: str
    created_at: str
    tools: dict[str, str]
    calibration: CalibrationData | None
    evaluation: EvaluationData
    devices: tuple[ReportedDevice, ...]
    cross_checks: tuple[CrossCheck, ...]
    decision: Decision
    searches: tuple[Search, ...] = ()
    speed_searches: tuple[SpeedSearch, ...] = ()
    paces: tuple[PacedRow, ...] = ()
    parity: Parity | None = None
    measurable: bool = True


@dataclass(frozen=True, kw_only=True)
class Report:
    """A view of measurements; it holds no facts of its own."""

    schema: int = SCHEMA
    model: str
    target: str
    created_at: str
    rows: tuple[ReportRow, ...]
    builds: tuple[ReportedBuild, ...]
    checks: tuple[Check, ...]
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LayerNumerics:
    """What int8 costs at one operation of the graph, by simulation on calibration samples.

    ``node`` is its name in the graph, ``module`` the path in the user's
    model and ``source`` the line that made it; ``kind`` says whether it has
    weights. Ratios of signal to noise power are in dB, None where nothing
    is lost: ``weight_sqnr_db`` of its rounded weights, ``own_sqnr_db`` of
    its output when it alone is int8, ``output_sqnr_db`` of its output when
    all before it is int8 too, ``final_sqnr_db`` of the model's output when
    it alone is int8. ``noise_share`` is its part of the noise that all
    operations make at the model's output, each alone. ``answers_changed``
    samples have another top-1 when it alone is int8.
    """

    node: str
    module: str
    op: str
    source: str
    kind: Literal["layer", "other"]
    mac_share: float
    weight_sqnr_db: float | None
    own_sqnr_db: float | None
    output_sqnr_db: float | None
    final_sqnr_db: float | None
    noise_share: float
    answers_changed: int


@dataclass(frozen=True, kw_only=True)
class NumericFinding:
    """A pattern known to lose accuracy, found in a model: ``sentence`` says it with its numbers, ``remedy`` what to do.

    ``layer`` is the module's path or the name of the node; ``numbers`` are
    those of the sentence, by name.
    """

    code: str
    layer: str
    source: str
    sentence: str
    remedy: str
    numbers: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """What quantizing by ``recipe`` does to the numbers of a model.

    All from a simulation over ``samples`` calibration samples:
    ``final_sqnr_db`` of the model's output with everything in int8 (None:
    nothing is lost), ``answers_changed`` of the samples.
    """

    schema: int = SCHEMA
    recipe: str
    samples: int
    final_sqnr_db: float | None
    answers_changed: int
    layers: tuple[LayerNumerics, ...]
    findings: tuple[NumericFinding, ...]


@dataclass(frozen=True, kw_only=True)
class FileFact:
    """A file and its content. Only while all four numbers are what they were may the content be taken as unread."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All that a build depended on, so that the next one can tell whether any of it has changed.

    ``request`` is what was asked for and ``machine`` what it was made with,
    as fingerprints by name. ``variables`` are the environment variables that
    counted, each a fingerprint of its value, None where it was not set;
    with ``every_variable`` all others count as well. ``files`` were read and
    ``code`` was loaded from installed packages (names by folder, fingerprint
    of their sizes, times and inodes). ``listings`` are fingerprints of
    folders that were listed, ``kinds`` what was found where the user's code
    asked for it ("absent", "directory", "file SIZE"), ``patterns`` the files
    that each pattern of ``[data] files`` named. ``lookups`` are the names of
    modules that were looked for, by folder ("" for where Python looks
    anyway), ``folders`` other places to look, ``found`` what was there.
    ``cwd`` is the folder the build ran in, where that counted. ``outputs``
    are the build's own files, relative to it. ``unseen`` says in sentences
    why the build cannot be taken over all the same.
    """

    schema: int = SCHEMA
    recorded_at_ns: int
    request: dict[str, str]
    machine: dict[str, str]
    variables: dict[str, str | None]
    every_variable: bool
    files: tuple[FileFact, ...]
    code: dict[str, tuple[str, ...]]
    code_sha256: str
    listings: dict[str, str]
    kinds: dict[str, str]
    patterns: dict[str, tuple[str, ...]]
    folders: tuple[str, ...]
    lookups: dict[str, tuple[str, ...]]
    found: dict[str, tuple[str, ...]]
    cwd: str | None
    outputs: tuple[FileFact, ...]
    unseen: tuple[str, ...]


Runs = Literal["int8", "float", "other", "moves"]
"""What a node computes on: int8, float, or other numbers (int64, bool); or it only moves values."""


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """One node of a lowered file, and what became of it in its runtime.

    ``node`` is its name in the file, ``module`` the path in the user's
    model and ``source`` the line that made it. ``kernel`` is what computes
    it: its own or that of the neighbour it is fused into; empty where none
    is left to run. ``delegated`` says whether it runs in the accelerated
    kernels, and ``partition`` in which part of a .pte. ``code`` is empty
    for what runs as well as the recipe asks for; else it names why not,
    ``reason`` says it in a sentence and ``rewrite`` what would mend it,
    where that is known.
    """

    node: str
    op: str
    module: str = ""
    source: str = ""
    runs: Runs
    kernel: str
    delegated: bool
    partition: int | None = None
    macs: int = 0
    mac_share: float = 0.0
    code: str = ""
    reason: str = ""
    rewrite: str = ""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A part of a .pte that runs in XNNPACK or on an NPU in one piece: ``operators`` counts its nodes.

    The bytes are what crosses its edges.
    """

    index: int
    operators: dict[str, int]
    mac_share: float
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, kw_only=True)
class Movement:
    """Work that computes nothing: values are turned, copied, or taken to int8 and back.

    ``bytes`` are read and written by one inference, None where that depends
    on the data. ``at`` says what stands next to it; ``inserted`` that no line of the user's asked for it.
    ``partition`` is None outside of all.
    """

    kind: Literal["quantize", "dequantize", "transpose", "copy"]
    node: str
    at: str
    bytes: int | None
    partition: int | None = None
    inserted: bool = True


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Every node of one artifact, as its runtime really runs it.

    Quantize and dequantize nodes that runtimes fuse are notation and no
    nodes; those that run stand among the ``movements``. ``notes`` say what
    was assumed.
    """

    schema: int = SCHEMA
    nodes: tuple[NodeFacts, ...]
    partitions: tuple[Partition, ...] = ()
    movements: tuple[Movement, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a build comes from: the project's folder, and the git commit that its files are of; "" without git.

    ``dirty``: files that git knows had other content than that commit's.
    """

    schema: int = SCHEMA
    project: str
    commit: str = ""
    dirty: bool = False


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What is known of one artifact and, if it was measured, of one measurement of it: enough to compare with later.

    ``right`` has a character for each labelled sample that ran, in the order
    of :func:`edgeq.evaluation.spread`: "1" where the top-1 was the label. A
    run of fewer samples is so the beginning of a longer one's. It is empty
    where that cannot be told. Two with the same ``labels_sha256`` speak of
    the same samples.
    """

    schema: int = SCHEMA
    model: str
    target: str
    artifact: str
    format: Format
    recipe: str
    artifact_sha256: str
    size_bytes: int
    int8_mac_share: float
    delegated_mac_share: float
    tools: dict[str, str]
    labels_sha256: str = ""
    right: str = ""
    commit: str = ""
    dirty: bool = False
    measured: Measurement | None


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a build is held against later: each of its artifacts on each device, as it was at ``saved_at``."""

    schema: int = SCHEMA
    saved_at: str
    observations: tuple[Observation, ...]


Moved = Literal["better", "same", "worse", "cannot tell"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure of an artifact, now and in a baseline. Values are in the unit that ``figure`` ends with.

    ``difference`` is in percent of the baseline's value, or in percentage
    points for shares and accuracy; ``tolerance`` is in the same.
    """

    artifact: str
    device: str | None
    figure: str
    before: float | None
    now: float | None
    difference: float | None
    tolerance: float
    outcome: Moved
    text: str


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Whether a build keeps its limits and its baseline. ``passed`` is false if any of that is missed or worse.

    With ``strict`` "cannot tell" is not passed either.
    """

    schema: int = SCHEMA
    build: str
    model: str
    target: str
    against: str
    checked_at: str
    strict: bool
    passed: bool
    limits: tuple[Check, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A result inside of an artifact: the ``node`` that gives it, and where that is in the user's model."""

    node: str
    op: str
    module: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class LayerParity:
    """One layer's result on a device against the build machine's, for one sample.

    ``sqnr_db`` is None for ``identical`` results, and where one is not finite.
    """

    layer: Layer
    identical: bool
    diverges: bool
    sqnr_db: float | None
    largest_difference: float | None


@dataclass(frozen=True, kw_only=True)
class NotProbed:
    """A layer whose result could not be looked at, and why."""

    layer: Layer
    reason: str


@dataclass(frozen=True, kw_only=True)
class LayerSearch:
    """Where two machines part inside of one artifact, on the ``sample`` (None: the golden input) where it shows most.

    ``layers`` are those that were compared, in the order in which they are
    computed; ``first_differing`` and ``first_diverging`` name nodes of them,
    empty where there is none. ``between`` are layers before the first
    diverging one, and behind the last that does not diverge, which could
    not be compared: any of them may be the one. ``notes`` say what was not
    done, and what the evidence rests on.
    """

    sample: int | None
    layers: tuple[LayerParity, ...]
    first_differing: str = ""
    first_diverging: str = ""
    between: tuple[Layer, ...] = ()
    not_probed: tuple[NotProbed, ...] = ()
    notes: tuple[str, ...] = ()


ParityVerdict = Literal["identical", "within tolerance", "diverges", "failed"]


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """One artifact's outputs on a ``device`` held against those of ``against``: the build machine, or another device.

    Of ``samples``, the golden input among them, so many are ``identical``
    bit for bit and have the ``same_top1`` (None where an output has no
    scores). ``sqnr_db`` is over all samples, ``worst_sqnr_db`` of the
    ``worst_sample`` (None: the golden input) alone; both are None where
    nothing differs or something is not finite. ``largest_difference`` is
    that of two values, and in steps of the output's scale where it has one.
    ``reason`` says why it diverges or failed.
    """

    artifact: str
    artifact_sha256: str
    device: str
    against: str
    verdict: ParityVerdict
    reason: str = ""
    samples: int = 0
    identical: int = 0
    same_top1: int | None = None
    sqnr_db: float | None = None
    worst_sample: int | None = None
    worst_sqnr_db: float | None = None
    largest_difference: float | None = None
    largest_difference_steps: float | None = None
    least_sqnr_db: float
    search: LayerSearch | None = None


@dataclass(frozen=True, kw_only=True)
class ParityDevice:
    """A device that was asked for: what it says of itself, or the ``error`` that kept it from being compared."""

    device: str
    timing: Timing | None = None
    facts: DeviceFacts | None = None
    error: str = ""
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Whether artifacts compute on devices what they compute on the build machine, and with each other.

    ``samples`` are the evaluation samples that were run beside the golden
    input.
    """

    schema: int = SCHEMA
    model: str
    target: str
    created_at: str
    samples: tuple[int, ...]
    devices: tuple[ParityDevice, ...]
    rows: tuple[ParityRow, ...]


@dataclass(frozen=True, kw_only=True)
class Dependency:
    """The package that brings an artifact's runtime into an app, at the version that the artifact was made with.

    ``published`` says whether that version was in the registry when this
    edgeq's list of releases was made, None for one newer than all of the
    list; ``note`` what to do where it is not, or where nobody knows.
    """

    name: str
    version: str
    published: bool | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ExportedGolden:
    """``cases`` inputs and outputs in a file of :mod:`edgeq.mobile.vectors`.

    A device passes if the outputs of each case are at least
    ``least_sqnr_db`` from the expected ones, the bound that a deployment and
    a parity check hold a device to. ``identical_on`` are the ARM devices that
    ``edgeq parity`` found to give the same bits.
    """

    file: str
    sha256: str
    size_bytes: int
    cases: int
    least_sqnr_db: float
    identical_on: tuple[str, ...]
    tolerance: str


DelegateName = Literal["vulkan", "vulkan-fp16", "coreml", "coreml-fp32"]
"""What may run a .pte on a phone beside its CPU, and in which floats it computes: Vulkan in float32 and Core ML in
float16 unless the name says otherwise, as each does by itself."""


@dataclass(frozen=True, kw_only=True)
class Delegated:
    """What a delegate of a phone has of a model; nothing of it ran on the build machine.

    ``float_dtype`` is what it computes in what the model has in float.
    ``mac_share`` of the multiply-accumulates are the delegate's, in
    ``partitions`` pieces, ``cpu_mac_share`` XNNPACK's, in
    ``cpu_partitions``. ``kernels`` counts the delegate's own operators, as
    they stand in the file. ``undelegated`` are the nodes that the delegate
    left, with its reason. ``described_db`` is how near its kernels as
    ExecuTorch describes them in PyTorch come to the artifact's outputs, None
    if they give the same bits or were not run. ``checked`` and ``unchecked``
    are sentences.
    """

    delegate: DelegateName
    backend: str
    float_dtype: Literal["float32", "float16"]
    system: str
    mac_share: float
    cpu_mac_share: float
    partitions: int
    cpu_partitions: int
    kernels: dict[str, int]
    undelegated: tuple[Undelegated, ...]
    described_db: float | None
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OrtFormat:
    """How an .ort came to be of an .onnx, and whether it computes the same on the build machine.

    ``operators`` are those of the file, DOMAIN;OPSET;NAME. ``identical``
    says whether all outputs of its test vectors are the .onnx's bit for
    bit, ``sqnr_db`` how near the one that differs most is, None where none
    does; ``note`` why they differ. ``checked`` and ``unchecked`` are sentences.
    """

    optimization_level: Literal["all"] = "all"
    style: Literal["fixed"] = "fixed"
    operators: tuple[str, ...]
    identical: bool
    sqnr_db: float | None
    note: str
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """One model file in an exported folder: the artifact that it is or was made of, and what runs it.

    ``file`` is relative to the folder. ``format`` is what the runtime reads.
    ``ort`` and ``delegated`` say how it was made of the artifact, None where
    it is the artifact's own file.
    """

    artifact: str
    artifact_sha256: str
    recipe: str
    file: str
    format: Literal["pte", "onnx", "ort"]
    sha256: str
    size_bytes: int
    requires: Requires
    dependency: Dependency
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: ExportedGolden | None
    ort: OrtFormat | None = None
    delegated: Delegated | None = None


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """How the model's one input is made of an image's bytes (height, width, channels).

    A byte becomes (byte - mean) / std in float32, the subtraction rounded
    before the division, and lies in ``layout`` behind a batch dimension of
    one. Where that is ``folded`` into the model its input is the bytes.
    """

    height: int
    width: int
    channels: int
    layout: Literal["NCHW", "NHWC"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    folded: bool


@dataclass(frozen=True, kw_only=True)
class ExportedImages:
    """``cases`` images and the tensors that the app has to make of them, bit for bit.

    ``as_evaluated`` says whether an evaluation sample, which the project's
    own function made, is among them, so that the app's arithmetic is the
    project's; if not, ``note`` says why.
    """

    file: str
    sha256: str
    size_bytes: int
    cases: int
    as_evaluated: bool
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Export:
    """What ``edgeq export`` wrote into a folder for an app; the same build and options give the same bytes.

    ``image`` is None where the app hands over tensors. ``chosen_because``
    says why these artifacts, ``left_out`` what is not there and why.
    ``package`` and ``type_name`` are what the app's code imports.
    """

    schema: int = SCHEMA
    platform: Literal["android", "ios"]
    model: str
    target: str
    built_at: str
    tools: dict[str, str]
    edgeq: str
    package: str
    type_name: str
    files: tuple[ExportedFile, ...]
    chosen_because: str
    labels: tuple[str, ...]
    image: ImageInput | None
    images: ExportedImages | None
    left_out: tuple[str, ...]
    operator_lists: tuple[str, ...] = ()
    """What a build of ONNX Runtime for the .ort files alone takes, without types and with them; () without an .ort."""
