"""Which recipe suits a model, its data and its target, on what facts: a guide, where ``auto`` tries and measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeq.errors import NoChoiceError
from edgeq.recipe import named
from edgeq.target import BARE_METAL
from edgeq.triple import KINDS, Triple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeq.progress import Progress
    from edgeq.project import Project
    from edgeq.target import Target

_DYNAMIC = {
    "convolutions": "their inputs are ranged while the model runs, a pass over each that calibration would save",
    "linear layers": "their inputs are ranged while the model runs",
    "recurrent layers": "each step reads the state of the one before, which is ranged while the model runs",
    "products": "the inputs of its linear layers are ranged while the model runs",
}
"""Why ranges are taken at run time, by what most of the work is for."""

_CHAINED = "what passes between layers stays int8"
_FED_BY_FLOAT = "ranges fixed beforehand save a pass over each input, and wide channels are evened out if that helps"
_AS_CHEAP = "float operators stand between its layers, so ranges taken at run time cost no more than fixed ones and fit"

_MOSTLY = 0.5
_AS_MANY = 0.9


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What advice rests on.

    ``kinds`` are the model's multiply-accumulates by what they are for;
    ``static_share`` and ``dynamic_share`` (0 to 1) what int8-static and
    int8-dynamic would take of ``macs``, ``chained_share`` the part of the
    former whose inputs are int8 already. ``calibration`` and ``train`` are
    the functions that the project names, or empty. ``recipes`` are those
    that would be built. ``executorch_activations`` is empty where the target has
    no ExecuTorch.
    """

    model: str
    macs: int
    kinds: dict[str, int]
    static_share: float
    chained_share: float
    dynamic_share: float
    calibration: str
    train: str
    max_drop_pp: float | None
    never_slower: bool
    recipes: tuple[str, ...]
    target: str
    cpu: str
    triple: Triple
    features: tuple[str, ...]
    executorch_activations: str
    onnxruntime_activations: str

    @property
    def foremost(self) -> str:
        """What most of the work is for; the first of equals."""
        return max(self.kinds, key=lambda kind: self.kinds[kind])


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A recipe's name, and why: one line each about the model, the data and the target."""

    recipe: str
    reasons: tuple[str, str, str]
    facts: Facts


def gather(
    project: Project, target: Target, *, recipes: Sequence[str] = (), threads: int = 1, progress: Progress
) -> Facts:
    """Look at the project's model, its settings and the target; ``recipes`` go before the project's own.

    UnknownNameError for a recipe that does not exist, ConfigError if the
    model cannot be loaded, ExportError if it cannot be exported,
    NoChoiceError if the target leaves no choice.
    """
    if target.triple == BARE_METAL or target.runtimes.onnxruntime is None:
        raise NoChoiceError(target.name)
    from edgeq.model import load_model  # noqa: PLC0415  # brings torch, which advice itself does not need
    from edgeq.quantize.work import measure_work  # noqa: PLC0415  # the same

    own = project.own_recipes()
    chosen = tuple(named(name, own).name for name in recipes or project.build.recipes)
    progress.step(f"loading {project.model.name}")
    work = measure_work(load_model(project), threads=threads, progress=progress)
    return Facts(
        model=project.model.name,
        macs=work.macs,
        kinds={str(kind): count for kind, count in work.kinds.items()},
        static_share=work.static_share,
        chained_share=work.chained_share,
        dynamic_share=work.dynamic_share,
        calibration=project.data.calibration,
        train=project.data.train,
        max_drop_pp=project.limits.max_drop_pp,
        never_slower=project.limits.never_slower,
        recipes=chosen,
        target=target.name,
        cpu=target.cpu,
        triple=target.triple,
        features=target.features,
        executorch_activations=target.runtimes.executorch.activations if target.runtimes.executorch else "",
        onnxruntime_activations=target.runtimes.onnxruntime.activations,
    )


def advise(facts: Facts) -> Advice:
    """The recipe for these facts, and the three reasons."""
    recipe = _recipe(facts)
    reasons = (_of_the_model(facts, recipe), _of_the_data(facts, recipe), _of_the_target(facts, recipe))
    return Advice(recipe=recipe, reasons=reasons, facts=facts)


def _recipe(facts: Facts) -> str:
    if facts.calibration and facts.static_share and not _suits_dynamic(facts):
        return "int8-static"
    return "int8-dynamic" if facts.dynamic_share else "fp32"


def _suits_dynamic(facts: Facts) -> bool:
    """Whether ranges taken at run time would be right even with calibration data."""
    if facts.foremost == "recurrent layers" or facts.dynamic_share > facts.static_share:
        return True
    return _dynamic_is_as_cheap(facts)


def _dynamic_is_as_cheap(facts: Facts) -> bool:
    """Whether taking ranges is little beside the rest, measured as ``docs/recipes.md`` says.

    Where float operators stand between the layers, a fixed range saves only
    the search for one; the products of a core without dot product outweigh
    that.
    """
    as_many = facts.dynamic_share >= _AS_MANY * facts.static_share
    return as_many and facts.chained_share < _MOSTLY and not _dot_products(facts)


def _of_the_model(facts: Facts, recipe: str) -> str:
    if not facts.macs:
        return f"{recipe}: {facts.model} has no convolution, linear or recurrent layer: nothing can be int8"
    shares = ", ".join(f"{count / facts.macs:.1%} in {kind}" for kind, count in facts.kinds.items() if count)
    return f"{recipe}: of {facts.model}'s {facts.macs / 1e6:.2f} M multiply-accumulates {shares}; {_why(facts, recipe)}"


def _why(facts: Facts, recipe: str) -> str:
    if recipe == "fp32":
        return "none of them can be int8" + (" without calibration" if facts.static_share else "")
    if recipe == "int8-static":
        return _CHAINED if facts.chained_share >= _MOSTLY else _FED_BY_FLOAT
    if facts.calibration and _dynamic_is_as_cheap(facts):
        return _AS_CHEAP
    return _DYNAMIC[facts.foremost]


def _of_the_data(facts: Facts, recipe: str) -> str:
    return f"data: {_calibration(facts, recipe)}; {_search(facts)}; {_builds(facts, recipe)}"


def _calibration(facts: Facts, recipe: str) -> str:
    static, dynamic = f"{facts.static_share:.1%}", f"{facts.dynamic_share:.1%}"
    if recipe == "int8-static":
        return f"calibration by {facts.calibration} gives the ranges, and {static} of the work becomes int8"
    if facts.calibration:
        return f"calibration by {facts.calibration} is not read: int8-dynamic takes {dynamic}, int8-static {static}"
    if _suits_dynamic(facts) or not facts.static_share:
        return f"no [data] calibration, and none is needed: {dynamic} of the work becomes int8"
    return f"no [data] calibration, so {dynamic} of the work becomes int8; with it int8-static would take {static}"


def _search(facts: Facts) -> str:
    if not facts.calibration:
        return "`--recipe auto` needs calibration"
    budget = "PP" if facts.max_drop_pp is None else f"{facts.max_drop_pp:g}"
    last = f"int8-qat by {facts.train} comes last" if facts.train else "without [data] train it ends before int8-qat"
    return f"`--recipe auto --max-drop {budget}` would try others, and {last}"


def _builds(facts: Facts, recipe: str) -> str:
    chosen = ", ".join(facts.recipes)
    if recipe in facts.recipes or "auto" in facts.recipes:
        return f"to be built: {chosen}"
    return f"to be built: {chosen}, so add `--recipe {recipe}`"


def _of_the_target(facts: Facts, recipe: str) -> str:
    reason = f"target: {facts.target} ({facts.cpu}) {_products(facts)}"
    if named(recipe).method != "static":
        return reason
    executorch = f"{facts.executorch_activations} in ExecuTorch and " if facts.executorch_activations else ""
    return f"{reason}; activations are {executorch}{facts.onnxruntime_activations} in ONNX Runtime"


def _dot_products(facts: Facts) -> str:
    return ", ".join(name for name in KINDS[facts.triple].dot_products if name in facts.features)


def _products(facts: Facts) -> str:
    names = _dot_products(facts)
    if names:
        return f"has the int8 dot product ({names}), where int8 layers gain most"
    proof = "the project's never_slower checks it" if facts.never_slower else "[limits] never_slower = true checks it"
    products = ", ".join(KINDS[facts.triple].dot_products) or "32-bit Arm has none that kernels use"
    return (
        f"names no int8 dot product ({products}): int8 takes a quarter of the memory, "
        f"and whether it is faster is for `edgeq bench` to show; {proof}"
    )
