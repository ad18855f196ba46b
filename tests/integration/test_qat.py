"""Quantization-aware training: it rounds as the artifact does, closes what PTQ leaves, and survives kill -9."""

from __future__ import annotations

import copy
import math
import signal
import subprocess
import sys
import textwrap
import time
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from quantize_models import dataset, lowered, samples, settled, sqnr_db
from torch import nn
from torch.nn import functional

from edgeq import errors
from edgeq.model import Model, Training, load_dataset, load_model, load_training
from edgeq.progress import SILENT
from edgeq.project import load_project
from edgeq.quantize import FloatGraph, QuantizedProgram, quantize
from edgeq.quantize.attributes import constant
from edgeq.quantize.emit import emit
from edgeq.quantize.plan import plan_int8
from edgeq.quantize.qat import train_quantization_aware
from edgeq.quantize.qat_graph import Rounding, training_graph
from edgeq.quantize.scheme import settle
from edgeq.recipe import named

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.fx import GraphModule

    from edgeq.host import HostRuntime
    from edgeq.quantize.scheme import Scheme
    from edgeq.recipe import Recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "qat_fashion_mnist"


@pytest.fixture(autouse=True)
def one_thread_and_a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))


def settled_by(source: FloatGraph, rules: Recipe) -> tuple[GraphModule, Scheme]:
    graph = source.copy()
    return graph, settle(graph, plan_int8(graph.graph), source.statistics(progress=SILENT), rules)


# --- the graph that is trained ---


class Padded(nn.Module):
    """TensorFlow's padding: the convolution and its batch norm read a pad that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(functional.relu6(self.norm(self.conv(functional.pad(x, (0, 1, 0, 1)))))).mean((2, 3))


class Dense(nn.Module):
    """A batch norm whose layer others read too, and tensors that share a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding="same", bias=False), nn.BatchNorm2d(8)
        self.second, self.out = nn.Conv2d(8, 8, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.first(x)
        return self.out(torch.cat([first, self.second(functional.relu(self.norm(first)))], 1)).mean((2, 3))


class Flat(nn.Module):
    """Batch norms without a plane: one alone, one behind a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.hidden = nn.BatchNorm1d(192), nn.Linear(192, 8)
        self.after, self.out = nn.BatchNorm1d(8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(functional.relu(self.after(self.hidden(self.norm(x.flatten(1))))))


class Computed(nn.Module):
    """Weights that are computed from parameters, a token for the batch, a product with a matrix, grouped layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3, padding=1))
        self.norm, self.grouped = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=2, bias=False)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.scale, self.matrix = nn.Parameter(torch.rand(8) + 0.5), nn.Parameter(torch.randn(8, 5) * 0.3)
        self.token = nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.hardswish(self.norm(self.conv(x))) * self.scale.view(1, -1, 1, 1)
        x = self.up(functional.dropout(self.grouped(x), 0.2, self.training)).mean((2, 3)).unsqueeze(1)
        return (torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) @ self.matrix).flatten(1)


@pytest.mark.parametrize("recipe", ["int8-static", "int8-static+per-tensor+symmetric"])
@pytest.mark.parametrize("make", [Padded, Dense, Flat, Computed])
def test_training_rounds_as_the_artifact_does(make: type[nn.Module], recipe: str) -> None:
    torch.manual_seed(0)
    module, given = settled(make()), samples((1, 3, 8, 8), count=16)
    rules = named(recipe)
    source = FloatGraph(small(module, given[0][0]), dataset(given), progress=SILENT)
    graph, scheme = settled_by(source, rules)
    rounding = Rounding(scheme, symmetric=rules.symmetric)
    batch = torch.cat([inputs[0] for inputs in given])
    training = training_graph("small", module, (batch,), rules, rounding)
    assert training is not None
    with torch.no_grad():
        float_results, results = module(batch), training(batch)
        int8 = emit(graph, scheme)
        expected = torch.cat([int8(*inputs) for inputs in given])
    against_int8 = sqnr_db(expected.numpy(), results.numpy())
    assert against_int8 > 40
    assert against_int8 > sqnr_db(float_results.numpy(), results.numpy()) + 6

    rounding.phase.norming = rounding.phase.observing = True
    training(batch).square().sum().backward()
    assert [name for name, parameter in module.named_parameters() if not parameter.grad.abs().sum() > 0] == []


# --- training ---

CLASSES, SIDE = 6, 12


def gratings(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy stripes in six directions: (count, 1, 12, 12), and which direction."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(CLASSES, (count,), generator=generator)
    angle = (classes * math.pi / CLASSES)[:, None, None]
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    phase, frequency = (torch.rand(count, 1, 1, generator=generator) for _ in range(2))
    stripes = torch.sin((3 + 2 * frequency) * (x * torch.cos(angle) + y * torch.sin(angle)) + phase * 2 * math.pi)
    return (stripes + 0.8 * torch.randn(count, SIDE, SIDE, generator=generator))[:, None], classes


class Small(nn.Sequential):
    """Depthwise blocks; ``spread`` lets the channels of each batch norm differ by up to 2 ** (2 * spread)."""

    def __init__(self, spread: int = 0) -> None:
        generator = torch.Generator().manual_seed(5)
        torch.manual_seed(0)
        super().__init__(*self._block(1, 8, 1), *self._block(8, 16, 2, 8), *self._block(16, 16, 1, 16))
        self.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16, CLASSES)])
        for part in self:
            if isinstance(part, nn.BatchNorm2d):
                exponents = torch.randint(-spread, spread + 1, (part.num_features,), generator=generator)
                part.weight.data *= torch.exp2(exponents.float())

    @staticmethod
    def _block(read: int, made: int, stride: int, groups: int = 1) -> list[nn.Module]:
        spatial = [nn.Conv2d(read, read, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(read), nn.ReLU6()]
        return [*spatial, nn.Conv2d(read, made, 1, bias=False), nn.BatchNorm2d(made), nn.ReLU6()]


def fit(module: nn.Module, steps: int, learning_rate: float = 0.001) -> None:
    images, classes = gratings(4096, seed=1)
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,))
        loss = functional.cross_entropy(module(images[chosen]), classes[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def small(module: nn.Module, example: torch.Tensor | None = None) -> Model:
    inputs = torch.zeros(1, 1, SIDE, SIDE) if example is None else example
    return Model(name="small", module=module.eval(), example_inputs=(inputs,))


def source_of(model: Model) -> FloatGraph:
    return FloatGraph(model, dataset([(image[None],) for image in gratings(24, seed=3)[0]]), progress=SILENT)


def training(function: Callable[..., None], steps: int = 100, **settings: Any) -> Training:
    given = {"learning_rate": 0.001, "seed": 0, "sha256": "", **settings}
    return Training(where="train.py:train", function=function, steps=steps, **given)


def trained(module: nn.Module, how: Training, recipe: str = "int8-qat") -> Model:
    model = small(module)
    return train_quantization_aware(source_of(model), model, named(recipe), how, progress=SILENT)


def right(runtime: HostRuntime, images: torch.Tensor, classes: torch.Tensor) -> int:
    return sum(
        int(runtime.run((image[None].numpy(),))[0].argmax()) == int(wanted)
        for image, wanted in zip(images, classes, strict=True)
    )


def test_training_closes_at_least_half_of_what_static_quantization_leaves(tmp_path: Path) -> None:
    module = Small(spread=4)
    fit(module.train(), 300, 0.01)
    images, classes = gratings(400, seed=2)
    model = small(module)
    with torch.no_grad():
        float_right = int((model.module(images).argmax(1) == classes).sum())
    source = source_of(model)
    fitted = trained(module, training(fit, 200), "int8-qat+per-tensor")
    static = quantize(source, named("int8-static+per-tensor"), progress=SILENT)
    aware = quantize(source_of(fitted), named("int8-qat+per-tensor"), progress=SILENT)
    for form in ("pte", "onnx"):
        static_right, aware_right = (
            right(run(program, form, tmp_path), images, classes) for program in (static, aware)
        )
        assert float_right - static_right > 0.03 * len(images)
        assert float_right - aware_right <= (float_right - static_right) / 2


def run(program: QuantizedProgram, form: str, folder: Path) -> HostRuntime:
    return lowered(program, form, folder)[1]


def test_the_weights_handed_back_are_those_that_int8_holds() -> None:
    for recipe in ("int8-qat", "int8-qat+per-tensor"):
        source = source_of(trained(settled(Small(spread=3)), training(fit, 5), recipe))
        graph, scheme = settled_by(source, named(recipe))
        assert len(scheme.weights) == 7
        for layer in scheme.weights:
            weight = constant(graph, layer.args[1])
            assert torch.allclose(scheme.rounded(layer, weight), weight, rtol=1e-5, atol=0)


def test_the_same_seed_gives_the_same_weights_and_leaves_random_numbers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = settled(Small())
    torch.manual_seed(7)
    before = torch.get_rng_state()
    states = []
    for run_number, seed in enumerate((0, 0, 1)):
        monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / str(run_number)))
        states.append(trained(module, training(fit, 8, seed=seed)).module.state_dict())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert any(not torch.equal(tensor, states[2][name]) for name, tensor in states[0].items())


def test_the_train_function_gets_an_instance_of_the_users_class_to_use_as_ever() -> None:
    module = settled(Small())
    untouched = copy.deepcopy(module.state_dict())
    seen: dict[str, Any] = {}

    def train(given: nn.Module, steps: int, *, learning_rate: float) -> None:
        seen.update(steps=steps, rate=learning_rate, kind=type(given), names=[n for n, _ in given.named_parameters()])
        average = torch.optim.swa_utils.AveragedModel(given)
        fit(given, steps - 2, learning_rate)
        average.update_parameters(given)
        optimizer = torch.optim.SGD(given.parameters(), lr=learning_rate)
        for count in (5, 3):  # the last batches are smaller
            given(input=gratings(count, seed=4)[0]).square().sum().backward()
            optimizer.step()
        given.eval()
        with torch.inference_mode():
            images = gratings(10, seed=4)[0]
            seen["averaged differs"] = not torch.equal(average.module.eval()(images), given(images))
            seen["equal in eval mode"] = torch.equal(given(images), given(images))
        best = copy.deepcopy(given.state_dict())
        given.load_state_dict(best)

    fitted = trained(module, training(train, 10))
    assert seen == {
        "steps": 10,
        "rate": 0.001,
        "kind": Small,
        "names": [name for name, _ in module.named_parameters()],
        "averaged differs": True,
        "equal in eval mode": True,
    }
    assert not fitted.module.training
    assert "forward" not in vars(fitted.module)
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in module.state_dict().items())


def test_statistics_move_in_the_first_fifth_and_a_batch_is_never_normalised_by_its_own() -> None:
    module = settled(Small())
    means, results, batches = [module[1].running_mean], [], gratings(64, seed=4)[0].split(8)

    def train(given: nn.Module, steps: int) -> None:
        optimizer = torch.optim.SGD(given.parameters(), lr=1e-3)
        for step in range(steps):
            given(batches[step % 8]).square().mean().backward()
            optimizer.step()
            means.append(given[1].running_mean.clone())
        results.extend([given(batches[0])[:2], given(batches[0][:2]), given.eval()(batches[0][:2])])

    trained(module, training(train, 10))
    assert [not torch.equal(*pair) for pair in pairwise(means)] == [True] * 2 + [False] * 8
    assert torch.allclose(results[0], results[1])
    assert torch.equal(results[1], results[2])


def test_channels_are_not_scaled_after_training() -> None:
    with pytest.raises(errors.RecipeError, match="equalize would undo what training has fitted"):
        trained(settled(Small()), training(fit), "int8-qat+equalize")


def test_the_example_loads_and_is_as_good_as_it_says() -> None:
    found = load_project(EXAMPLE)
    assert load_training(found, "int8-qat").steps == found.qat.steps
    module = load_model(found).module
    samples_of_it = islice(load_dataset(found, found.data.evaluation, labelled=True), 1000)
    with torch.inference_mode():
        assert sum(int(module(*sample.inputs).argmax()) == sample.label for sample in samples_of_it) >= 870


# --- what goes wrong: functions that leave ``steps`` alone, as a user's may ---


class Tiny(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, CLASSES))


def never(module: nn.Module, steps: int) -> None:
    pass


def calls_parts(module: nn.Module, _steps: int) -> None:
    batch = gratings(4, seed=1)[0]
    for part in module:
        batch = part(batch)
    batch.sum().backward()
    torch.optim.SGD(module.parameters(), 0.1).step()


def in_eval_mode(module: nn.Module, _steps: int) -> None:
    module.eval()
    module(gratings(4, seed=1)[0])


def forgets_the_step(module: nn.Module, _steps: int) -> None:
    module(gratings(4, seed=1)[0]).sum().backward()


def replaces(module: nn.Module, _steps: int) -> None:
    fit(module, 1)
    module[0].weight = nn.Parameter(module[0].weight.detach() + 1)


def diverges(module: nn.Module, _steps: int) -> None:
    fit(module, 2, float("inf"))


def raises(module: nn.Module, _steps: int) -> None:
    fit(module, 1)
    raise ValueError("no such file")


def other_shape(module: nn.Module, _steps: int) -> None:
    module(torch.zeros(4, 1, 14, 14))


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (never, errors.TrainingError, "never called the module$"),
        (calls_parts, errors.TrainingError, "never called the module$"),
        (in_eval_mode, errors.TrainingError, "called the module in eval mode or without gradients only"),
        (forgets_the_step, errors.TrainingError, "changed no weight"),
        (replaces, errors.TrainingError, "put another tensor in the place of 0.weight"),
        (diverges, errors.DivergedError, "NaN or infinite at step 2"),
        (raises, errors.UserCodeError, "ValueError: no such file"),
        (other_shape, errors.TrainingInputError, r"float32 \[batch, 1, 14, 14\] where .* \[batch, 1, 12, 12\]"),
    ],
)
def test_a_train_function_that_does_not_train_is_told_so(
    function: Callable[..., None], error: type[errors.EdgeqError], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        trained(Tiny(), training(function))
    assert raised.value.hint
    assert raised.value.exit_code == 2
    if function is in_eval_mode:
        assert "module.train()" in raised.value.hint
    if function in (never, calls_parts):
        assert "forward()" in raised.value.hint
    if function is raises:
        assert "raise ValueError" in raised.value.detail


class Single(nn.Module):
    """Takes one sample at a time: its code says so in three ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv, self.out = how, nn.Conv2d(1, 4, 3), nn.Linear(400, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if self.how == "raises":
            return self.out(x.view(1, 400))
        if self.how == "merges":
            return self.conv.weight.sum() + x.reshape(1, -1).mean(1)
        return self.out(x.flatten(1)) * 2 if x.shape[0] > 1 else self.out(x.flatten(1)).relu() @ self.out.weight[:, :2]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("raises", "cannot be trained on a batch of 64: RuntimeError"),
        ("merges", r"gives \[1\] where one sample gives \[1\]"),
        ("branches", "its graph for a batch is another than for one sample"),
    ],
)
def test_a_model_that_takes_single_samples_only_is_said_with_its_line(how: str, words: str) -> None:
    with pytest.raises(errors.NotBatchableError, match=words) as raised:
        trained(Single(how), training(fit))
    if how == "raises":
        assert "x.view(1, 400)" in raised.value.hint


# --- a project, and kill -9 ---

PROJECT = {
    "edgeq.toml": """
        [model]
        name = "tiny"
        factory = "model.py:load"
        inputs = [{ shape = [1, 4], dtype = "float32" }]
        [data]
        evaluation = "model.py:samples"
        train = "train.py:train"
        [qat]
        steps = 60
        """,
    "model.py": """
        import torch
        from torch import nn

        def load():
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        """,
    "train.py": """
        import os, time
        import torch

        def train(module, steps, learning_rate):
            with open(os.environ["CALLS"], "a") as calls:
                calls.write(f"{steps}\\n")
            optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
            for _ in range(steps):
                time.sleep(float(os.environ.get("PAUSE", 0)))
                optimizer.zero_grad()
                module(torch.randn(16, 4)).square().mean().backward()
                optimizer.step()
        """,
}

SCRIPT = """
    import sys
    import torch
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    import test_qat
    from edgeq.quantize import qat

    qat._SECONDS_BETWEEN_CHECKPOINTS = 0.2
    test_qat.train_project(Path(sys.argv[1]))
"""


def project_at(folder: Path, **changed: str) -> Path:
    for name, text in {**PROJECT, **changed}.items():
        (folder / name).write_text(textwrap.dedent(text))
    return folder


def train_project(folder: Path) -> Model:
    project = load_project(folder)
    model = load_model(project)
    source = FloatGraph(model, dataset(samples((1, 4), count=8)), progress=SILENT)
    return train_quantization_aware(
        source, model, named("int8-qat"), load_training(project, "int8-qat"), progress=SILENT
    )


def test_after_kill_9_training_goes_on_and_when_it_has_ended_it_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, calls, kept = project_at(tmp_path), tmp_path / "calls", tmp_path / "cache" / "qat"
    monkeypatch.setenv("CALLS", str(calls))
    monkeypatch.setenv("PAUSE", "0.1")
    script = textwrap.dedent(SCRIPT)
    process = subprocess.Popen([sys.executable, "-c", script, str(folder), str(Path(__file__).parent)])
    deadline = time.monotonic() + 120
    while not list(kept.glob("*.pt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setenv("PAUSE", "0")
    fitted = train_project(folder)
    asked = [int(line) for line in calls.read_text().splitlines()]
    assert asked[0] == 60
    assert 0 < asked[1] < 60
    again = train_project(folder)
    assert len(calls.read_text().splitlines()) == 2
    assert all(
        torch.equal(tensor, again.module.state_dict()[name]) for name, tensor in fitted.module.state_dict().items()
    )
    (folder / "train.py").write_text((folder / "train.py").read_text() + "# another\n")
    train_project(folder)
    assert calls.read_text().splitlines()[2] == "60"
    for file in kept.glob("*.pt"):
        file.write_bytes(b"damaged")
    train_project(folder)
    assert calls.read_text().splitlines()[3] == "60"


def test_a_project_without_a_train_function_is_told_what_to_write(tmp_path: Path) -> None:
    toml = PROJECT["edgeq.toml"].replace('train = "train.py:train"', "")
    project = load_project(project_at(tmp_path, **{"edgeq.toml": toml}))
    with pytest.raises(errors.NoTrainFunctionError, match=r"\[data\] train is missing") as raised:
        load_training(project, "int8-qat")
    assert 'train = "train.py:train"' in raised.value.hint


def test_a_train_function_that_takes_something_else_is_told_what_to_take(tmp_path: Path) -> None:
    project = load_project(project_at(tmp_path, **{"train.py": "def train(module): pass"}))
    with pytest.raises(errors.TrainSignatureError, match=r"takes \(module\)"):
        load_training(project, "int8-qat")
