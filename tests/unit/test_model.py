from __future__ import annotations

from pathlib import Path  # noqa: TC003  # pytest gives one

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


def test_a_pass_over_the_data_counts_and_fingerprints_it() -> None:
    data = _dataset([(_image(),), (_image() + 1,)])
    assert len(list(data)) == 2
    other = _dataset([(_image(),), (_image() + 2,)])
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
