from __future__ import annotations

from pathlib import Path  # noqa: TC003  # pytest gives one

import numpy as np
import pytest
import torch

from edgeq import errors
from edgeq.project import DataSection, InputSpec, ModelSection, Project

SPECS = (InputSpec(shape=(1, 3, 8, 8)),)


def _project(root: Path, model: str, factory: str = "model.py:load") -> Project:
    (root / "model.py").write_text(f"import torch\n\n{model}\n")
    return Project(
        root=str(root),
        model=ModelSection(name="tiny", factory=factory, inputs=SPECS),
        data=DataSection(evaluation="data.py:evaluation"),
    )


def _load(root: Path, model: str, factory: str = "model.py:load") -> object:
    from edgeq.model import load_model

    return load_model(_project(root, model, factory))


TRACED = """
import warnings

def load():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8))
"""
CONVOLUTION = "def load():\n    return torch.nn.Conv2d(3, 4, 3)"


def test_a_module_is_loaded_in_eval_mode_with_an_example_of_the_stated_shape(tmp_path: Path) -> None:
    model = _load(tmp_path, CONVOLUTION)
    assert not model.module.training
    assert model.example_inputs[0].shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("def load():\n    return 7", errors.NotAModelError, "returned int"),
        ("def load():\n    raise ValueError('no weights here')", errors.UserCodeError, "ValueError: no weights here"),
        ("raise OSError('half a file')", errors.UserCodeError, "OSError: half a file"),
        ("def laod():\n    pass", errors.BadReferenceError, "no function 'load'"),
        ("def load():\n    return torch.nn.Conv2d(4, 4, 3)", errors.ForwardError, "[1, 3, 8, 8]"),
        ("def load():\n    return torch.nn.Conv2d(3, 4, 3).double()", errors.ForwardError, "[1, 3, 8, 8]"),
        (
            "def load():\n    m = torch.nn.Conv2d(3, 4, 3)\n    m.bias.data[1] = float('nan')\n    return m",
            errors.NonFiniteWeightsError,
            "bias",
        ),
        (
            TRACED,
            errors.ScriptedModelError,
            "TorchScript",
        ),
    ],
)
def test_what_is_no_model_is_refused_at_the_door(
    tmp_path: Path, code: str, error: type[errors.ConfigError], words: str
) -> None:
    with pytest.raises(error) as caught:
        _load(tmp_path, code)
    assert words in caught.value.message
    assert caught.value.exit_code == 2


def test_an_error_in_the_users_code_names_the_users_own_line(tmp_path: Path) -> None:
    with pytest.raises(errors.UserCodeError) as caught:
        _load(tmp_path, "def load():\n    return [][3]")
    assert "model.py:4" in caught.value.detail


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("model.py", "no ':function' part"),
        ("nowhere.py:load", "does not exist"),
        ("no_such_package.models:load", "no module named 'no_such_package'"),
    ],
)
def test_a_reference_that_leads_nowhere_says_why(tmp_path: Path, factory: str, words: str) -> None:
    with pytest.raises(errors.BadReferenceError) as caught:
        _load(tmp_path, CONVOLUTION, factory)
    assert words in caught.value.message


def _dataset(items: object, *, labelled: bool = False) -> object:
    from edgeq.model import Dataset

    return Dataset(lambda: items, SPECS, where="data.py:f", labelled=labelled)


def _image(**kwargs: object) -> object:
    return torch.zeros(1, 3, 8, 8, **kwargs)


def _slope() -> torch.Tensor:
    return torch.linspace(0, 1, 3 * 8 * 8).reshape(1, 3, 8, 8)


def test_a_pass_over_the_data_counts_and_fingerprints_it() -> None:
    data = _dataset([(_image(),), (_slope(),)])
    assert len(list(data)) == 2
    other = _dataset([(_image(),), (_slope() + 2,)])
    list(other)
    assert data.samples == other.samples == 2
    assert data.sha256 != other.sha256


def test_channels_last_samples_are_made_contiguous() -> None:
    tensor = torch.zeros(1, 8, 8, 3).permute(0, 3, 1, 2)
    assert not tensor.is_contiguous()
    (sample,) = _dataset([(tensor,)])
    assert sample.inputs[0].is_contiguous()


@pytest.mark.parametrize(
    ("items", "labelled", "error", "words"),
    [
        ([], False, errors.EmptyDatasetError, "yielded no sample"),
        ([(torch.zeros(1, 3, 9, 9),)], False, errors.SampleError, "[1, 3, 9, 9]"),
        ([(_image(dtype=torch.float64),)], False, errors.SampleError, "float64"),
        ([(_image(), _image())], False, errors.SampleError, "has 2 inputs"),
        ([([1, 2],)], False, errors.SampleError, "not a tuple of tensors"),
        ([(_image() / 0,)], False, errors.SampleError, "NaN or infinity"),
        ([(_image(),)], True, errors.SampleError, "not a pair"),
        ([((_image(),), "cat")], True, errors.SampleError, "label of type str"),
        (7, False, errors.UserCodeError, "TypeError"),
    ],
)
def test_a_sample_that_does_not_fit_is_named_with_its_number(
    items: object,
    labelled: bool,
    error: type[errors.ConfigError],
    words: str,  # a parameter of a table
) -> None:
    with pytest.raises(error) as caught:
        list(_dataset(items, labelled=labelled))
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("item", "hint"),
    [
        ((torch.zeros(3, 8, 8),), "tensor[None]"),
        ((torch.zeros(16, 3, 8, 8),), "batch_size=1"),
        ((_image(dtype=torch.float64),), "tensor.to(torch.float32)"),
        ((torch.zeros(1, 8, 8, 3),), "the shape under [model] inputs"),
        ((_image(), torch.tensor(3)), "if the last one is a label, leave it out"),
        ((_image(), 3), "without a label: yield (x,)"),
        (((_image(),), 3), "without a label: yield (x,)"),
        ((_image().numpy(),), "torch.from_numpy(array)"),
        (_image().numpy(), "torch.from_numpy(array)"),
        ({"x": _image()}, "as a tuple, in the order"),
        ((_image().to_sparse(),), "tensor.to_dense()"),
        ((_image(device="meta"),), "tensor.cpu()"),
    ],
)
def test_a_sample_that_does_not_fit_says_how_it_would(item: object, hint: str) -> None:
    with pytest.raises(errors.SampleError) as caught:
        list(_dataset([item]))
    assert hint in caught.value.hint


@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8, torch.int64])
def test_a_dtype_is_only_proposed_for_edgeq_toml_if_it_may_stand_there(dtype: torch.dtype) -> None:
    with pytest.raises(errors.SampleError) as caught:
        list(_dataset([(_image(dtype=dtype),)]))
    assert ("or state" in caught.value.hint) == (dtype is torch.int64)


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        ((_image(), 3), "(Tensor, int)"),
        (((_image(),), 3), "((Tensor,), int)"),
        ((_image().numpy(),), "(ndarray,)"),
        ({"x": _image()}, "dict"),
        ([1.0] * 9, "list"),
    ],
)
def test_a_sample_that_is_no_tuple_of_tensors_is_told_by_its_types(item: object, kind: str) -> None:
    with pytest.raises(errors.SampleError) as caught:
        list(_dataset([item]))
    assert f" is {kind}, not a tuple of tensors" in caught.value.message


@pytest.mark.parametrize("label", [torch.tensor([1, 2]), np.array([1.5]), np.array([1, 2]), 1.5, "cat"])
def test_a_label_that_is_no_class_number_is_refused(label: object) -> None:
    with pytest.raises(errors.SampleError, match="has a label of type"):
        list(_dataset([((_image(),), label)], labelled=True))


def test_a_label_may_be_a_number_a_tensor_or_missing() -> None:
    data = _dataset([((_image(),), 3), ((_image(),), torch.tensor(4)), ((_image(),), None)], labelled=True)
    assert [sample.label for sample in data] == [3, 4, None]


def test_what_the_users_data_function_raises_before_it_yields_is_told_as_the_users() -> None:
    from edgeq.model import Dataset

    def missing() -> list[object]:
        raise FileNotFoundError("photos/ does not exist")

    with pytest.raises(errors.UserCodeError, match="photos/ does not exist"):
        list(Dataset(missing, SPECS, where="data.py:missing", labelled=True))


def test_what_the_users_generator_raises_is_told_as_the_users() -> None:
    def items() -> object:
        yield (_image(),)
        raise FileNotFoundError("photos/17.jpg")

    from edgeq.model import Dataset

    with pytest.raises(errors.UserCodeError, match=r"photos/17\.jpg"):
        list(Dataset(items, SPECS, where="data.py:f", labelled=False))


class Repeating:
    """Iterable, and not an iterator."""

    def __iter__(self) -> object:
        yield from ((_image(),), (_slope(),))


class Indexed:
    """A torch Dataset: it gives an item for any index, and its length."""

    def __getitem__(self, index: int) -> object:
        return (_slope() + index,)

    def __len__(self) -> int:
        return 2


def _loader() -> object:
    from torch.utils.data import DataLoader, TensorDataset

    return DataLoader(TensorDataset(torch.cat((_image(), _slope()))), batch_size=1)


@pytest.mark.parametrize(
    ("items", "total"), [([(_image(),), (_slope(),)], 2), (Repeating(), None), (Indexed(), 2), (_loader(), 2)]
)
def test_whatever_can_be_iterated_gives_the_samples_twice(items: object, total: int | None) -> None:
    data = _dataset(items)
    reading = data.read()
    assert reading.total == total
    assert [len(list(reading)), len(list(data)), data.samples] == [2, 2, 2]
    assert data.repeatable


def test_a_list_of_the_users_module_needs_no_function_around_it(tmp_path: Path) -> None:
    from edgeq.model import load_dataset

    (tmp_path / "data.py").write_text("import torch\nSAMPLES = [(torch.rand(1, 3, 8, 8),) for _ in range(3)]\n")
    data = load_dataset(_project(tmp_path, CONVOLUTION), "data.py:SAMPLES", labelled=False)
    assert len(list(data)) == 3


def test_an_iterator_that_was_used_up_says_so_at_the_second_pass() -> None:
    data = _dataset(iter([(_image(),), (_slope(),)]))
    list(data)
    with pytest.raises(errors.ReadOnceError, match="none when it was called again"):
        list(data)


def test_a_pass_that_stops_early_knows_what_it_read() -> None:
    data = _dataset([(_slope() + index,) for index in range(5)])
    reading = data.read()
    for _ in range(3):
        next(reading)
    reading.stop()
    first = _dataset([(_slope() + index,) for index in range(3)])
    list(first)
    assert (reading.samples, reading.sha256) == (3, first.sha256)
    assert data.samples is None


def test_samples_that_differ_from_pass_to_pass_are_noticed() -> None:
    from edgeq.model import Dataset

    data = Dataset(lambda: [(torch.rand(1, 3, 8, 8),) for _ in range(3)], SPECS, where="data.py:f", labelled=False)
    list(data)
    assert data.repeatable
    list(data)
    assert not data.repeatable


def test_an_evaluation_set_of_one_class_is_refused() -> None:
    labelled = [((_slope() + index,), 3) for index in range(8)]
    with pytest.raises(errors.OneClassError, match="always answers 3 would score 100 %"):
        list(_dataset(labelled, labelled=True))
    assert len(list(_dataset(labelled[:7], labelled=True))) == 7
    assert len(list(_dataset([*labelled, ((_slope(),), 4)], labelled=True))) == 9
    assert len(list(_dataset([((_slope(),), None)] * 9, labelled=True))) == 9


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([(_slope(),)] * 4, "all 4 samples of data.py:f are the same"),
        ([(_image() + index,) for index in range(3)], "constant, one value throughout"),
    ],
)
def test_calibration_samples_that_show_no_range_are_refused(items: object, words: str) -> None:
    with pytest.raises(errors.SamplesAlikeError, match=words):
        list(_dataset(items))


def test_a_single_calibration_sample_may_be_anything() -> None:
    assert len(list(_dataset([(_image(),)]))) == 1


def test_a_tensor_that_is_filled_again_for_each_sample_holds_different_samples() -> None:
    from edgeq.model import Dataset

    def items() -> object:
        tensor = torch.empty(1, 3, 8, 8)
        for index in range(3):
            tensor.copy_(_slope() + index)
            yield (tensor,)

    assert len(list(Dataset(items, SPECS, where="data.py:f", labelled=False))) == 3


def test_an_iterator_that_every_call_gives_again_is_read_once_and_a_generator_function_is_not() -> None:
    from edgeq.model import Dataset

    def fresh() -> object:
        yield (_image(),)

    assert _dataset(iter([(_image(),)])).read_once
    assert not _dataset([(_image(),)]).read_once
    assert not Dataset(fresh, SPECS, where="data.py:f", labelled=False).read_once


def test_an_iterator_of_which_a_pass_left_nothing_says_so_even_if_that_pass_stopped_early() -> None:
    data = _dataset(iter([(_image(),), (_slope(),)]))
    reading = data.read()
    next(reading)
    next(reading)
    with pytest.raises(errors.ReadOnceError, match="none when it was called again"):
        list(data)


def test_an_iterator_made_outside_the_function_goes_on_in_the_next_pass() -> None:
    stored = ((_slope() + index,) for index in range(4))
    data = _dataset(stored)
    reading = data.read()
    next(reading)
    del reading
    assert len(list(data)) == 3


def test_an_iterator_that_was_used_up_before_any_pass_is_not_a_matter_of_files() -> None:
    stored = iter([(_image(),)])
    list(stored)
    with pytest.raises(errors.EmptyDatasetError) as caught:
        list(_dataset(stored))
    assert "let each call return a new iterator" in caught.value.hint
    with pytest.raises(errors.EmptyDatasetError) as caught:
        list(_dataset([]))
    assert caught.value.hint == "check where it looks for its files"
