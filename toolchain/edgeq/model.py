"""The user's model and data: loaded from ``file.py:function`` or ``package.module:function``, and checked at the door.

Whatever is wrong with them is said here, before minutes are spent on
quantizing: a factory that raises, a shape that does not fit, NaN weights.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from edgeq import errors
from edgeq.files import sha256_file
from edgeq.sample_hints import are_tensors, how_to_fit, how_to_give, kind
from edgeq.user_code import at_home, called, find_function, guarded, length, line_of_user, told

if TYPE_CHECKING:
    from edgeq.project import InputSpec, Project
    from edgeq.user_code import Home


_MOST_KEPT = 32
"""Calibration samples that stay in memory for what looks at a few of them."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A float32 module in eval mode and one set of example inputs (contiguous, batch of one). Never changed.

    Example inputs of an integer dtype are zeros: the one token id that every table has. ``learned`` are the ranges
    that quantization-aware training has settled, by the name of the graph's node.
    """

    name: str
    module: torch.nn.Module
    example_inputs: tuple[torch.Tensor, ...]
    learned: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample: contiguous inputs with a batch dimension of one, and its label if it has one."""

    inputs: tuple[torch.Tensor, ...]
    label: int | None


class Dataset:
    """Samples of a user's function, checked one by one, of which no more than a few are ever held together.

    ``source`` gives an iterable: a generator, a list, a DataLoader, anything
    with ``__iter__``. Each pass asks it for a new one, so a second pass sees
    the same data as long as the function is deterministic; ``repeatable``
    is False once it was not. After a full pass ``samples`` and ``sha256``
    (over the shapes and bytes of every input) are known; ``seen`` is the most
    that any pass has read so far. ``where`` is the function's reference,
    ``home`` where what it yields is made.
    """

    def __init__(
        self,
        source: Callable[[], Any],
        specs: tuple[InputSpec, ...],
        *,
        where: str,
        labelled: bool,
        home: Home | None = None,
    ) -> None:
        self._source = source
        self._home = home
        self._specs = specs
        self._seen: dict[int, str] = {}
        self.where = where
        self.labelled = labelled
        self.samples: int | None = None
        self.seen = 0
        self.sha256 = ""
        self.repeatable = True
        self.note = str(getattr(source, "note", ""))
        self._few: list[Sample] = []

    def __iter__(self) -> Iterator[Sample]:
        """Every sample in order; ConfigError at the first that does not fit the model."""
        return self.read()

    def read(self) -> Reading:
        """Begin a pass that may stop before the end."""
        items = called(self._source, self.where)
        return Reading(self, guarded(items, self.where, self._home), total=self.samples or length(items))

    def few(self, count: int) -> list[Sample]:
        """At most ``count`` samples, spread over what was read so far; only where nothing was, the first ones are read.

        A pass over inputs alone keeps some of them, so that they need not
        be decoded again, and an iterator that is used up has served.
        """
        if not self._few:
            return list(itertools.islice(self, count))
        chosen = min(count, len(self._few))
        return [self._few[index * len(self._few) // chosen] for index in range(chosen)]

    @property
    def read_once(self) -> bool:
        """Whether each call gives the same iterator, so that what is read of it is gone for the next pass."""
        first = called(self._source, self.where)
        return isinstance(first, Iterator) and called(self._source, self.where) is first

    @property
    def place(self) -> str:
        """The function's reference, with the project's folder if it lies in one: a name for these samples."""
        return f"{self._home.root if self._home else ''}:{self.where}"

    def ended(self, reading: Reading) -> None:
        """Learn from a pass over all samples; EmptyDatasetError if there was none."""
        if not reading.samples and self.seen:
            raise errors.ReadOnceError(self.where)
        if not reading.samples:
            raise errors.EmptyDatasetError(self.where, read_once=self.read_once)
        self.compare(reading, at_end=True)
        self.samples, self.sha256 = reading.samples, reading.sha256

    def compare(self, reading: Reading, *, at_end: bool = False) -> None:
        """Notice a pass that differs from an earlier one: at its end, and whenever the number of samples doubled."""
        if reading.samples >= self.seen:
            self.seen, self._few = reading.samples, reading.few
        if at_end or reading.samples.bit_count() == 1:
            self.repeatable &= self._seen.setdefault(reading.samples, reading.sha256) == reading.sha256

    def sample(self, item: object, index: int) -> Sample:
        """The ``item`` that the user's iterable gave as number ``index``; SampleError if it does not fit."""
        label: object = None
        if self.labelled:
            if not (isinstance(item, tuple | list) and len(item) == 2):  # noqa: PLR2004  # inputs and label
                raise errors.SampleError(
                    self.where, index, "is not a pair of inputs and a label", "yield ((tensor, ...), label)"
                )
            item, label = item
        inputs = (item,) if isinstance(item, torch.Tensor) else item
        if not are_tensors(inputs):
            raise errors.SampleError(
                self.where,
                index,
                f"is {kind(item)}, not a tuple of tensors",
                how_to_give(item, labelled=self.labelled),
            )
        return Sample(inputs=self._fitting(tuple(inputs), index), label=self._label(label, index))

    def _fitting(self, inputs: tuple[torch.Tensor, ...], index: int) -> tuple[torch.Tensor, ...]:
        """The inputs, contiguous, if their number, shapes, dtypes and values fit."""
        if len(inputs) != len(self._specs):
            one_more = len(inputs) == len(self._specs) + 1 and not self.labelled
            raise errors.SampleError(
                self.where,
                index,
                f"has {len(inputs)} inputs where the model takes {len(self._specs)}",
                "a calibration sample is the inputs alone; if the last one is a label, leave it out"
                if one_more
                else "",
            )
        for tensor, spec in zip(inputs, self._specs, strict=True):
            if tensor.layout != torch.strided:
                raise errors.SampleError(
                    self.where, index, f"is a sparse tensor ({tensor.layout})", "give it as tensor.to_dense()"
                )
            if tensor.device.type != "cpu":
                raise errors.SampleError(self.where, index, f"lies on {tensor.device}", "give it as tensor.cpu()")
            dtype = str(tensor.dtype).removeprefix("torch.")
            if tuple(tensor.shape) != spec.shape or dtype != spec.dtype:
                raise errors.SampleError(
                    self.where,
                    index,
                    f"is {dtype} {list(tensor.shape)} where edgeq.toml says {spec.dtype} {list(spec.shape)}",
                    how_to_fit(tensor, dtype, spec),
                )
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise errors.SampleError(self.where, index, "holds NaN or infinity", "leave such samples out")
        return tuple(tensor.detach().contiguous() for tensor in inputs)

    def _label(self, label: object, index: int) -> int | None:
        if label is None:
            return None
        if isinstance(label, torch.Tensor) and label.numel() == 1:
            label = label.item()
        try:
            return operator.index(label)  # type: ignore[arg-type]  # whatever can be a number
        except (TypeError, RuntimeError):  # torch raises the latter for several elements
            raise errors.SampleError(
                self.where, index, f"has a label of type {type(label).__name__}", "a label is a class number, or None"
            ) from None


class Reading:
    """One pass over a dataset: an iterator that knows what it has read so far.

    ``total`` is the number of samples where that is known beforehand.
    """

    def __init__(self, dataset: Dataset, items: Iterator[object], *, total: int | None) -> None:
        self._dataset = dataset
        self._items = items
        self._digest = hashlib.sha256()
        self._variety = _Variety()
        self._apart = 1
        self.samples = 0
        self.total = total
        self.few: list[Sample] = []

    @property
    def sha256(self) -> str:
        """Over the shapes and bytes of every input read so far."""
        return self._digest.hexdigest()

    def __iter__(self) -> Reading:
        return self

    def __next__(self) -> Sample:
        for item in self._items:
            sample = self._dataset.sample(item, self.samples)
            for tensor in sample.inputs:
                self._digest.update(str(tuple(tensor.shape)).encode())
                self._digest.update(tensor.numpy().data)
            self._variety.add(sample)
            if not self._dataset.labelled and self.samples % self._apart == 0:
                self._keep(sample)
            self.samples += 1
            self._dataset.compare(self)
            return sample
        self._dataset.ended(self)
        self.stop()
        raise StopIteration

    def _keep(self, sample: Sample) -> None:
        """Keep some samples, evenly spread over those read so far: every one, then every second, every fourth, ..."""
        # A copy: a user may fill the same tensor again for each sample.
        self.few.append(Sample(inputs=tuple(tensor.clone() for tensor in sample.inputs), label=None))
        if len(self.few) > _MOST_KEPT:
            del self.few[1::2]
            self._apart *= 2

    def stop(self) -> None:
        """Read no more; ConfigError if what was read cannot tell anything, as all of it is alike."""
        self._variety.check(self._dataset.where, labelled=self._dataset.labelled)


class _Variety:
    """Notices samples that are all alike: a fault in how they are read, which later would look like success."""

    _FEW_LABELS = 8
    """So many may be of one class by chance, or on purpose in a first try."""

    def __init__(self) -> None:
        self._first: tuple[torch.Tensor, ...] | None = None
        self._samples = 0
        self._labels = 0
        self._label: int | None = None
        self._one_label = self._one_sample = self._constant = True

    def add(self, sample: Sample) -> None:
        """Compare a sample with those before."""
        if sample.label is not None:
            self._one_label &= self._labels == 0 or sample.label == self._label
            self._label = sample.label
            self._labels += 1
        if self._first is None:
            # A copy: a user may fill the same tensor again for each sample.
            self._first = tuple(tensor.clone() for tensor in sample.inputs)
        elif self._one_sample:
            self._one_sample = all(map(torch.equal, self._first, sample.inputs))
        if self._constant:
            self._constant = all(bool((tensor == tensor.flatten()[0]).all()) for tensor in sample.inputs)
        self._samples += 1

    def check(self, where: str, *, labelled: bool) -> None:
        """OneClassError or SamplesAlikeError if there is no difference where there must be one."""
        if labelled and self._labels >= self._FEW_LABELS and self._one_label:
            raise errors.OneClassError(where, self._labels, self._label)
        if not labelled and self._samples > 1 and self._first is not None:
            if self._one_sample:
                raise errors.SamplesAlikeError(where, self._samples, "the same")
            if self._constant and any(tensor.numel() > 1 for tensor in self._first):
                raise errors.SamplesAlikeError(where, self._samples, "constant, one value throughout")


def load_model(project: Project) -> Model:
    """Call the project's factory and check what it gives; ConfigError if it is no model that can be built."""
    where = project.model.factory
    factory = find_function(where, Path(project.root))
    module = called(factory, where)
    if not isinstance(module, torch.nn.Module):
        raise errors.NotAModelError(where, type(module).__name__)
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise errors.ScriptedModelError(where)
    module = module.eval()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise errors.NonFiniteWeightsError(where, name)
    generator = torch.Generator().manual_seed(0)
    example = tuple(_example(spec, generator) for spec in project.model.inputs)
    with at_home(factory.home):
        _try_out(module, example, where)
    return Model(name=project.model.name, module=module, example_inputs=example)


def _example(spec: InputSpec, generator: torch.Generator) -> torch.Tensor:
    dtype: torch.dtype = getattr(torch, spec.dtype)
    return (
        torch.rand(spec.shape, generator=generator) if dtype.is_floating_point else torch.zeros(spec.shape, dtype=dtype)
    )


def load_dataset(project: Project, function: str, *, labelled: bool) -> Dataset:
    """The samples of ``function``, a ``[data]`` entry of the project: a function, or a list or DataLoader as it is."""
    source = find_function(function, Path(project.root), or_iterable=True)
    return Dataset(source, project.model.inputs, where=function, labelled=labelled, home=source.home)


@dataclass(frozen=True, kw_only=True)
class Training:
    """The user's train function and what it is run with.

    ``sha256`` is over the Python files beside the function's, so that a
    change of what it imports from there is a change.
    """

    where: str
    function: Callable[..., Any]
    steps: int
    learning_rate: float
    seed: int
    sha256: str

    @property
    def fingerprint(self) -> str:
        """Of all that the training depends on beside the model and its calibration."""
        facts = (self.where, self.steps, self.learning_rate, self.seed, self.sha256)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def __call__(self, module: torch.nn.Module, steps: int) -> None:
        """Train ``module`` in place; UserCodeError with the user's line if the function raises."""
        given = {"learning_rate": self.learning_rate} if _takes_learning_rate(self.function) else {}
        called(self.function, self.where, module, steps, **given)


def load_training(project: Project, recipe: str) -> Training:
    """The train function of the project; ``recipe`` is who asks, for messages.

    NoTrainFunctionError if the project names none, TrainSignatureError if
    it does not take (module, steps).
    """
    where = project.data.train
    if not where:
        raise errors.NoTrainFunctionError(recipe)
    function = find_function(where, Path(project.root))
    given = {"learning_rate": 0.0} if _takes_learning_rate(function) else {}
    try:
        inspect.signature(function).bind(None, 1, **given)
    except TypeError:
        raise errors.TrainSignatureError(where, str(inspect.signature(function))) from None
    return Training(
        where=where,
        function=function,
        steps=project.qat.steps,
        learning_rate=project.qat.learning_rate,
        seed=project.qat.seed,
        sha256=_sources_sha256(where, Path(project.root)),
    )


def _takes_learning_rate(function: Callable[..., Any]) -> bool:
    return "learning_rate" in inspect.signature(function).parameters


def _sources_sha256(reference: str, root: Path) -> str:
    """Of the Python files in the folder of the function that ``reference`` has loaded."""
    source = reference.partition(":")[0]
    file = root / source if source.endswith(".py") else Path(sys.modules[source].__file__ or "")
    digest = hashlib.sha256()
    for path in sorted(file.parent.glob("*.py")):
        digest.update(f"{path.name} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def _try_out(module: torch.nn.Module, example: tuple[torch.Tensor, ...], reference: str) -> None:
    """One forward pass, so that a shape that does not fit is said here and not by the exporter."""
    try:
        with torch.inference_mode():
            module(*example)
    except (Exception, SystemExit) as error:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in example)
        raise errors.ForwardError(reference, shapes, told(error), line_of_user(error)) from error
