"""Find the recipe that keeps the accuracy budget and costs least on the device: by trying, on the artifacts.

The ladder of ``auto``, cheapest on the device first:

1. everything in int8, with the usual ranges; where that leaves most in
   float (recurrent layers), ranges taken at run time beside it;
2. the same with another observer, then equalized, then with adaptive
   rounding: none of these costs anything on the device, and each is tried
   only where a simulation on calibration samples says that it helps;
3. where linear layers hold most of the work, ranges taken at run time;
4. the fewest MACs left in float, by measured sensitivity (the whole of
   ``int8-mixed``);
5. training, where the project has a train function.

The first whose drop against fp32, on the same samples, is within the budget
is taken. What costs speed is not tried on the evidence of samples that are
too few to show the budget at all. A search that ends without one that keeps
it gives the best it found; a step that fails, as a train function may, is
told and left behind.

Every trial is kept in a journal in the cache: a search that was killed, or
is run again with another budget, tries nothing twice.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import records, stats
from edgeq.errors import ConfigError, DiskFullError
from edgeq.lower import lower
from edgeq.quantize import FloatGraph, quantize
from edgeq.quantize.macs import macs, operator_name
from edgeq.quantize.observers import RANGES
from edgeq.quantize.sensitivity import sensitivities
from edgeq.quantize.simulate import simulated_sqnr_db
from edgeq.quantize.static import settled
from edgeq.quantize.threads import torch_threads
from edgeq.recipe import Recipe, named
from edgeq.stages.journal import Journal
from edgeq.stages.scoring import Scorer
from edgeq.stages.verdict import best_of, cheapest_of, too_few, verdict
from edgeq.target import Target

if TYPE_CHECKING:
    from edgeq.progress import Progress
    from edgeq.records import LayerNumerics

SEED = 0
"""Of everything random that a trial does; the manifest names it."""

_WORTH_TRYING_DB = 0.2
"""A gain in the simulation below this is not worth an artifact."""

_LEAST_INT8_SHARE = 0.5
"""A mixed artifact with less than this in int8 is no answer; the project's min_int8_mac_share goes before it."""

_MOST_MIXED_TRIALS = 8

_STEP_DB = 0.5
"""What so many layers in float have to bring in the simulation before an artifact is made of them."""

_LEAST_SHARE = 1e-6
"""Layers with hardly any MACs are alike in cost."""


@dataclass(frozen=True, kw_only=True)
class SearchGround:
    """What a trial needs: where to write, how to score, what to hold it against.

    ``source_of`` gives the float graph that a recipe starts from (a trained
    one for QAT); ``trains`` says whether the project can train. ``twin`` is
    the fp32 artifact, already scored. ``journal_of`` gives the trials that
    were made before on the same model, data and whatever else a recipe
    depends on.
    """

    source: FloatGraph
    source_of: Callable[[Recipe], FloatGraph]
    trains: bool
    scorer: Scorer
    folder: Path
    target: Target
    form: records.Format
    twin: str
    journal_of: Callable[[Recipe], Journal]
    max_drop_pp: float
    least_int8_share: float | None


@dataclass(frozen=True, kw_only=True)
class Found:
    """The recipe to build, and how it was found."""

    recipe: Recipe
    record: records.Search


def search(recipe: Recipe, ground: SearchGround, *, progress: Progress) -> Found:
    """Settle a recipe that is a search: ``auto`` or ``int8-mixed``."""
    climb = _Climb(recipe.name, ground, progress)
    for step in _AUTO if recipe.name == "auto" else _MIXED:
        step(climb)
        if climb.settled():
            break
    return climb.found()


class _Climb:
    """One search: what was tried so far, and the best of it."""

    def __init__(self, name: str, ground: SearchGround, progress: Progress) -> None:
        self._name = name
        self._ground = ground
        self._progress = progress
        self._twin_right = ground.scorer.right(ground.twin)
        self._trials: list[tuple[Recipe, records.Trial]] = []
        self._simulations: dict[tuple[str, tuple[str, ...]], float] = {}
        self._too_few = False

    def settled(self) -> bool:
        """Whether there is nothing left to look for."""
        return self._too_few or cheapest_of(self._made()) is not None

    def attempt(self, recipe: Recipe, why: str) -> records.Trial:
        """Make the artifact of ``recipe`` and score it, unless the journal knows how that ends.

        One that fails is a row like others, not the end of the search, and
        not for the journal: what it failed of may be mended. The first has
        to succeed: what comes after is compared with it.
        """
        journal = self._ground.journal_of(recipe)
        trial = journal.recall(recipe)
        if trial is None:
            self._progress.step(f"trying {recipe.name}: {why}")
            try:
                trial = self._tried(recipe)
            except ConfigError as error:
                if not self._trials or isinstance(error, DiskFullError):
                    raise
                return self._failed(recipe, why, error)
            journal.add(trial)
        assert trial.drop_pp is not None  # noqa: S101  # every scored trial has one
        kept = trial.drop_pp <= self._ground.max_drop_pp
        trial = dataclasses.replace(trial, why=why, outcome="met" if kept else "missed")
        self._progress.step(f"{recipe.name}: a drop of {trial.drop_pp:.2f} pp on {trial.labelled} samples")
        self._trials.append((recipe, trial))
        return trial

    def attempt_usual(self) -> None:
        """Try the cheapest on the device: of what is mostly recurrent layers, static int8 leaves most in float."""
        trial = self.attempt(named("int8-static"), "everything in int8: the cheapest on the device")
        if self._name == "auto" and (trial.int8_mac_share or 0.0) < _LEAST_INT8_SHARE:
            self.attempt_dynamic()

    def attempt_observer(self) -> None:
        """Try the observer that a simulation likes best, if it likes one better than the usual."""
        recipe = self._best()
        usual = self._simulated(recipe)
        scores = {name: self._simulated(named(f"{recipe.name}+{name}")) for name in RANGES if name != recipe.observer}
        best = max(scores, key=lambda name: (scores[name], name))
        self._attempt_if(
            scores[best] - usual, named(f"{recipe.name}+{best}"), f"{scores[best]:.1f} dB, not {usual:.1f}"
        )

    def attempt_equalizing(self) -> None:
        """Try what moves ranges between neighbours, if a simulation says that it helps."""
        for technique in ("smooth", "equalize"):
            recipe = self._best()
            other = named(f"{recipe.name}+{technique}")
            before, after = self._simulated(recipe), self._simulated(other)
            self._attempt_if(after - before, other, f"{after:.1f} dB, not {before:.1f}")
            if self.settled():
                return

    def attempt_rounding(self) -> None:
        """Try adaptive rounding, which only an artifact can judge."""
        self.attempt(named(f"{self._best().name}+adaround"), "rounding directions fitted to the outputs of each layer")

    def judge_samples(self) -> None:
        """Stop where the drop may be chance and the samples cannot show the budget: what follows costs speed."""
        self._too_few = too_few(best_of(self._made()), self._ground.max_drop_pp)

    def attempt_dynamic(self) -> None:
        """Try ranges taken at run time, where linear and recurrent layers hold most of the MACs; once."""
        if any(recipe.method == "dynamic" for recipe, _ in self._trials):
            return
        nodes = self._ground.source.graph.graph.nodes
        linear = sum(macs(node) for node in nodes if operator_name(node) in ("linear", "lstm", "gru"))
        if 2 * linear > sum(macs(node) for node in nodes):
            self.attempt(named("int8-dynamic"), "most MACs are in linear layers: ranges taken at run time")
        else:
            self._skip("int8-dynamic", "convolutions hold most of the MACs")

    def attempt_mixed(self) -> None:
        """Leave layers in float, most noise for their MACs first: 1, 2, 4, ... of them until enough, then fewer.

        No artifact is made of so few that a simulation sees no gain: between
        int8 neighbours a float layer's result is rounded all the same.
        """
        recipe = self._best(lambda candidate: candidate.method == "static")
        order = self._by_noise(recipe)
        most = self._most_in_float(order)

        def with_float(count: int) -> Recipe:
            return dataclasses.replace(recipe, keep_float=tuple(sorted(row.node for row in order[:count])))

        low, high, count = 0, None, 1
        enough_db = self._simulated(recipe) + _STEP_DB
        for _ in range(_MOST_MIXED_TRIALS if most else 0):
            while high is None and count < most and self._simulated(with_float(count)) < enough_db:
                low, count = count, min(2 * count, most)
            why = f"{count} of {len(order)} layers in float: those that make most noise for their MACs"
            if self.attempt(with_float(count), why).outcome == "met":
                high = count
            else:
                low = count
            if low == most or (high is not None and high - low <= 1):
                break
            count = min(2 * count, most) if high is None else (low + high) // 2

    def attempt_training(self) -> None:
        """Try QAT where the project has a train function."""
        if self._ground.trains:
            self.attempt(named("int8-qat"), "weights trained to be int8")
        else:
            self._skip("int8-qat", "the project has no [data] train function")

    def found(self) -> Found:
        """The cheapest trial that keeps the budget, else the best of all, and what may be said of it."""
        chosen = cheapest_of(self._made()) or best_of(self._made())
        recipe = self._recipe_of(chosen)
        outcome, reason = verdict(chosen, self._made(), self._ground.max_drop_pp)
        return Found(
            recipe=dataclasses.replace(recipe, name=self._name),
            record=records.Search(
                name=self._name,
                max_drop_pp=self._ground.max_drop_pp,
                seed=SEED,
                format=self._ground.form,
                outcome=outcome,
                chosen=recipe.name,
                keep_float=recipe.keep_float,
                reason=reason,
                trials=tuple(self._made()),
            ),
        )

    def _made(self) -> list[records.Trial]:
        return [trial for _, trial in self._trials]

    def _recipe_of(self, made: records.Trial) -> Recipe:
        return next(recipe for recipe, trial in self._trials if trial is made)

    def _best(self, among: Callable[[Recipe], bool] = lambda _: True) -> Recipe:
        return self._recipe_of(best_of(trial for recipe, trial in self._trials if among(recipe)))

    def _attempt_if(self, gain_db: float, recipe: Recipe, told: str) -> None:
        if gain_db >= _WORTH_TRYING_DB:
            self.attempt(recipe, f"a simulation gives {told}")
        else:
            self._skip(recipe.name, f"a simulation sees no gain: {told}")

    def _skip(self, name: str, why: str) -> None:
        self._progress.step(f"skipping {name}: {why}")
        recipe = named(name)
        self._trials.append((recipe, records.Trial(recipe=name, why=why, outcome="skipped")))

    def _failed(self, recipe: Recipe, why: str, error: ConfigError) -> records.Trial:
        told = error.message
        self._progress.step(f"{recipe.name} failed: {told}")
        trial = records.Trial(recipe=recipe.name, keep_float=recipe.keep_float, why=why, outcome="failed", error=told)
        self._trials.append((recipe, trial))
        return trial

    def _tried(self, recipe: Recipe) -> records.Trial:
        path = self._ground.folder / f"{self._ground.source.model}.trial.{self._ground.form}"
        try:
            return self._scored(recipe, path)
        finally:
            path.unlink(missing_ok=True)
            self._ground.scorer.forget(path.name)

    def _scored(self, recipe: Recipe, path: Path) -> records.Trial:
        ground, started = self._ground, time.monotonic()
        program = quantize(ground.source_of(recipe), recipe, progress=self._progress)
        coverage = lower(program, ground.form, ground.target, path)
        ground.scorer.begin(path, ground.form, golden=False)
        host = ground.scorer.score(path.name, twin=ground.twin)
        drop = stats.paired_drop(self._twin_right, ground.scorer.right(path.name))
        return records.Trial(
            recipe=recipe.name,
            keep_float=recipe.keep_float,
            why="",
            outcome="missed",
            correct=host.correct,
            labelled=host.labelled,
            drop_pp=drop.drop_pp,
            drop_ci95_pp=(drop.low_pp, drop.high_pp),
            drop_p_value=drop.p_value,
            agree=host.agree,
            total=host.total,
            sqnr_db=host.sqnr_db,
            identical=host.identical,
            int8_mac_share=coverage.int8_mac_share,
            float_macs=round(coverage.macs * (1 - coverage.int8_mac_share)),
            size_bytes=path.stat().st_size,
            seconds=time.monotonic() - started,
        )

    def _simulated(self, recipe: Recipe) -> float:
        """SQNR of the model's output, in dB, over some calibration samples, by fake quantization."""
        key = (recipe.name, recipe.keep_float)
        if key not in self._simulations:
            source = self._ground.source_of(recipe)
            self._progress.step(f"simulating {recipe.name}")
            with torch_threads(source.threads):
                found = settled(source, recipe, progress=self._progress)
                sqnr_db = simulated_sqnr_db(source.graph, found.graph, found.scheme, source.samples())
            self._simulations[key] = sqnr_db
        return self._simulations[key]

    def _by_noise(self, recipe: Recipe) -> list[LayerNumerics]:
        """The layers, the one first that makes most noise at the output for the MACs it would cost in float."""
        source = self._ground.source_of(recipe)
        self._progress.step("measuring how much noise each layer makes")
        with torch_threads(source.threads):
            found = settled(source, recipe, progress=self._progress)
            rows = sensitivities(found.graph, found.scheme, source.samples(), progress=self._progress)
        return sorted(rows, key=lambda row: (-row.noise_share / max(row.mac_share, _LEAST_SHARE), row.node))

    def _most_in_float(self, order: list[LayerNumerics]) -> int:
        """So many of the layers, in that order, may be float."""
        least = self._ground.least_int8_share or _LEAST_INT8_SHARE
        in_float = itertools.accumulate(row.mac_share for row in order)
        return sum(1 for share in in_float if share <= 1 - least)


_AUTO = (
    _Climb.attempt_usual,
    _Climb.attempt_observer,
    _Climb.attempt_equalizing,
    _Climb.attempt_rounding,
    _Climb.judge_samples,
    _Climb.attempt_dynamic,
    _Climb.attempt_mixed,
    _Climb.attempt_training,
)
_MIXED = (_Climb.attempt_usual, _Climb.attempt_mixed)
