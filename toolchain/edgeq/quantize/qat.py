"""Quantization-aware training: the user's own training, with the rounding of int8 in every forward pass.

Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (CVPR 2018); batch norms and ranges are
frozen for the last part, as Krishnamoorthi, "Quantizing deep convolutional
networks for efficient inference: A whitepaper" (2018) advises.

What comes out is a float model whose weights have the values of their
integers, and the range of every scale. Ranges are not taken from calibration
again: the float model shows others than the rounded one, and weights have
fitted themselves to these.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import inspect
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgeq import errors
from edgeq.model import Model
from edgeq.quantize.plan import plan_int8
from edgeq.quantize.qat_checkpoint import Reached, TrainingCheckpoint
from edgeq.quantize.qat_graph import Rounding, round_for_good, training_graph
from edgeq.quantize.scheme import settle
from edgeq.quantize.selection import selected
from edgeq.quantize.source import user_line
from edgeq.quantize.threads import torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.fx import GraphModule

    from edgeq.model import Training
    from edgeq.progress import Progress
    from edgeq.quantize.float_graph import FloatGraph
    from edgeq.recipe import Recipe

_NORMS_FROZEN_AFTER = 0.2
_RANGES_FROZEN_AFTER = 0.75
"""Parts of the steps. The statistics that ranges depend on stand still first, then the ranges; weights move on."""

_NEVER_CALLED = (
    "never called the module",
    "call module(inputs), not its parts: forward() rounds as int8 does; and step() after each loss.backward()",
)
_NEVER_TRAINING = (
    "called the module in eval mode or without gradients only",
    "leave it in training mode, or call module.train() before the steps, and forward() outside torch.no_grad()",
)
"""What a train function did, and the next step."""

_SECONDS_BETWEEN_CHECKPOINTS = 30.0
_GRAPHS_KEPT = 8
_VERSIONS = tuple(importlib.metadata.version(package) for package in ("edgeq", "torch"))


def train_quantization_aware(
    source: FloatGraph, model: Model, recipe: Recipe, training: Training, *, progress: Progress
) -> Model:
    """A copy of ``model`` that ``training`` has fitted to the int8 form that ``recipe`` gives it.

    ``source`` is the float graph of ``model``: the ranges begin at what its
    calibration shows. The module that the train function gets is an
    instance of the user's own class whose forward pass rounds; parameters
    keep their names and are trained in place. A run that was cut short goes
    on where it was at most 30 s earlier; one that had ended is not repeated.

    RecipeError for a technique that changes weights afterwards,
    UserCodeError if the train function raises, TrainingError if it does not
    train the module, DivergedError if a weight becomes NaN,
    NotBatchableError if the model takes single samples only.
    """
    for technique in ("equalize", "smooth", "adaround"):
        if getattr(recipe, technique):
            reason = f"{technique} would undo what training has fitted"
            raise errors.RecipeError(recipe.name, reason, f"leave +{technique} out, or add it to int8-static")
    with torch_threads(source.threads):
        plan = plan_int8(source.graph.graph, keep_float=selected(source.graph.graph, recipe))
        statistics = source.statistics(progress=progress)
        rounding = Rounding(settle(source.graph, plan, statistics, recipe), symmetric=recipe.symmetric)
        key = _key(source, model, recipe, training, statistics.data.sha256)
        module = _copied(model, training.where)
        run = _Run(module, rounding, training, TrainingCheckpoint(key), progress)
        progress.step(f"training {model.name} for int8")
        if not run.restore():
            forward = _RoundingForward(run, model, recipe)
            module.forward = forward  # of this one instance
            with _seeded(training.seed + run.done):
                training(module.train(), training.steps - run.done)
            forward.leave()
            run.check(model.module)
            round_for_good(forward.single())
            run.keep()
    learned = {name: activation.range() for name, activation in rounding.activations.items()}
    return Model(name=model.name, module=module.eval(), example_inputs=model.example_inputs, learned=learned)


class _Run:
    """One training: how far it is, what it may still change, and its checkpoints."""

    def __init__(
        self,
        module: torch.nn.Module,
        rounding: Rounding,
        training: Training,
        checkpoint: TrainingCheckpoint,
        progress: Progress,
    ) -> None:
        self.module = module
        self.rounding = rounding
        self.done = 0
        self._called = False
        self.where = training.where
        self._began = 0
        self._steps = training.steps
        self._checkpoint = checkpoint
        self._progress = progress
        self._saved_at = time.monotonic()
        self._tensors = _tensors(module)

    def restore(self) -> bool:
        """Take up what an earlier process left; whether nothing remains to be done."""
        reached = self._checkpoint.load(self._tensors, self.rounding.activations)
        if reached is None:
            return False
        self.done = self._began = reached.done
        return reached.finished

    def begin(self, *, training: bool) -> None:
        """Before a forward pass; in training mode, and with gradients, an optimizer step is to follow it."""
        self._called = True
        part = self.done / self._steps
        self.rounding.phase.norming = training and part < _NORMS_FROZEN_AFTER
        self.rounding.phase.observing = training and part < _RANGES_FROZEN_AFTER
        if not (training and torch.is_grad_enabled()):
            return
        if time.monotonic() - self._saved_at > _SECONDS_BETWEEN_CHECKPOINTS and self.done > self._began:
            self._save(finished=False)
        self.done += 1
        self._progress.advance(min(self.done, self._steps), self._steps)

    def end(self) -> None:
        """After a forward pass."""
        if self.rounding.phase.observing:
            for activation in self.rounding.activations.values():
                activation.follow()

    def check(self, untrained: torch.nn.Module) -> None:
        """TrainingError if the module is not trained."""
        if self.done == self._began:
            raise errors.TrainingError(self.where, *(_NEVER_TRAINING if self._called else _NEVER_CALLED))
        replaced = [name for name, tensor in _tensors(self.module).items() if self._tensors.get(name) is not tensor]
        if replaced:
            raise errors.TrainingError(
                self.where,
                f"put another tensor in the place of {replaced[0]}",
                "change parameters in place, as optimizers and load_state_dict() do",
            )
        before = dict(untrained.named_parameters())
        if all(torch.equal(parameter, before[name]) for name, parameter in self.module.named_parameters()):
            raise errors.TrainingError(
                self.where,
                "changed no weight of the module",
                "give module.parameters() to the optimizer and call its step()",
            )

    def keep(self) -> None:
        """Keep the trained module, so that it is not trained again."""
        for parameter in self.module.parameters():
            parameter.grad = None
        self._save(finished=True)

    def _save(self, *, finished: bool) -> None:
        for name, tensor in self._tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise errors.DivergedError(self.where, name, self.done)
        self._checkpoint.save(self._tensors, self.rounding.activations, Reached(done=self.done, finished=finished))
        self._saved_at = time.monotonic()


class _RoundingForward:
    """Stands in the place of a module's ``forward`` while it is trained; has a graph for each batch size."""

    def __init__(self, run: _Run, model: Model, recipe: Recipe) -> None:
        self._run = run
        self._model = model
        self._recipe = recipe
        self._module = run.module
        self._expected = tuple((tuple(t.shape[1:]), t.dtype) for t in model.example_inputs)
        self._original = run.module.__dict__.get("forward")
        self._signature = inspect.signature(run.module.forward)
        # The same tensors in a module that stays in eval mode and keeps its own forward: that one is captured.
        shared = {id(tensor): tensor for tensor in _tensors(run.module).values()}
        self._twin = copy.deepcopy(run.module, shared).eval()
        with torch.no_grad():
            self._single = _leaves(self._twin(*model.example_inputs))
        self._graphs: dict[tuple[torch.Size, ...], GraphModule] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> _RoundingForward:
        """For a copy of the module, as an average of its weights is; in the same training, with graphs of its own."""
        other = copy.copy(self)
        other._module = memo[id(self._module)]  # noqa: SLF001  # its own class
        other._twin = copy.deepcopy(self._twin, memo)  # noqa: SLF001  # the same
        other._graphs = {}  # noqa: SLF001  # the same
        return other

    def __call__(self, *args: object, **kwargs: object) -> object:
        """The module's result for a batch, with the rounding of int8 where its phase asks for it."""
        inputs = self._inputs(*args, **kwargs)
        graph = self._graph(inputs)
        self._run.begin(training=self._module.training)
        result = graph(*inputs)
        self._run.end()
        return result

    def single(self) -> GraphModule:
        """The graph for one sample."""
        return self._graph(self._model.example_inputs)

    def leave(self) -> None:
        """Give the module its own ``forward`` back."""
        del self._module.forward
        if self._original is not None:
            self._module.forward = self._original

    def _inputs(self, *args: object, **kwargs: object) -> tuple[torch.Tensor, ...]:
        inputs = self._signature.bind(*args, **kwargs).args
        got = tuple(
            (tuple(given.shape[1:]), given.dtype) if isinstance(given, torch.Tensor) else type(given).__name__
            for given in inputs
        )
        if got != self._expected:
            raise errors.TrainingInputError(self._run.where, _in_words(got), _in_words(self._expected))
        return tuple(given.contiguous() for given in inputs)

    def _graph(self, inputs: tuple[torch.Tensor, ...]) -> GraphModule:
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self._graphs:
            if len(self._graphs) == _GRAPHS_KEPT:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[shapes] = self._captured(inputs)
        return self._graphs[shapes]

    def _captured(self, inputs: tuple[torch.Tensor, ...]) -> GraphModule:
        batch = len(inputs[0])
        with torch.inference_mode(mode=False), torch.no_grad():
            example = tuple(torch.zeros_like(tensor) for tensor in inputs)
            try:
                results = _leaves(self._twin(*example))
            except Exception as error:
                reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                raise errors.NotBatchableError(
                    self._model.name, batch, reason, source=user_line(error), detail=str(error)
                ) from error
            for single, result in zip(self._single, results, strict=True):
                if result.shape != (batch * len(single), *single.shape[1:]):
                    reason = f"it gives {list(result.shape)} where one sample gives {list(single.shape)}"
                    raise errors.NotBatchableError(self._model.name, batch, reason, source="", detail="")
            graph = training_graph(self._model.name, self._twin, example, self._recipe, self._run.rounding)
        if graph is None:
            reason = "its graph for a batch is another than for one sample"
            raise errors.NotBatchableError(self._model.name, batch, reason, source="", detail="")
        return graph


def _copied(model: Model, where: str) -> torch.nn.Module:
    try:
        module = copy.deepcopy(model.module)
    except Exception as error:
        raise errors.TrainingError(
            where,
            f"cannot be given a copy of {model.name}: {error}",
            "let copy.deepcopy(module) work: no open files, no tensors that are results of others",
        ) from error
    with torch.no_grad():
        for tensor in _tensors(module).values():
            tensor.data = tensor.data.contiguous()
    return module


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers, each once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _leaves(result: object) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]  # noqa: SLF001  # torch.export's own notion of a result


def _in_words(inputs: tuple[Any, ...]) -> str:
    return ", ".join(
        given if isinstance(given, str) else f"{str(given[1]).removeprefix('torch.')} [batch, {str(list(given[0]))[1:]}"
        for given in inputs
    )


def _key(source: FloatGraph, model: Model, recipe: Recipe, training: Training, calibration: str) -> str:
    """Of all that the result depends on."""
    digest = hashlib.sha256(source.sha256.encode())
    for name, tensor in _tensors(model.module).items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    rules = (recipe.per_channel, recipe.symmetric, recipe.observer, recipe.keep_float)
    digest.update(f"{rules} {training.fingerprint} {calibration} {_VERSIONS}".encode())
    return digest.hexdigest()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch, numpy and random that depend on ``seed`` alone; as before after the block."""
    states = np.random.get_state(), random.getstate()  # noqa: NPY002  # the user's code may use the global generator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002  # the same
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(states[0])  # noqa: NPY002  # the same
            random.setstate(states[1])
