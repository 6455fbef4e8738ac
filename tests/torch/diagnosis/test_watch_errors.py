"""What the census refuses, and that watching leaves nothing behind."""

from __future__ import annotations

import copy
import gc
import io
import pickle

import numpy as np
import pytest
import torch
from support.watching import hooks
from torch import nn

from leakyrelu.torch import diagnose, watch


def test_watches_nest_and_leave_nothing_behind():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    with watch(model) as outer:
        model(torch.ones(1, 2))
        inner = watch(model)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), inner:
            model(torch.ones(1, 2)), model(torch.ones(1, 3))
        with pytest.raises(RuntimeError, match="already open"):
            outer.__enter__()
        model(torch.ones(1, 2))
    assert (outer.report().layers[0].samples, inner.report().layers[0].samples) == (3, 1)
    assert hooks(model) == 0


def test_copies_made_while_watched_are_not_watched():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    with watch(model) as census:
        twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        buffer = io.BytesIO()
        torch.save(model, buffer)
        for twin in twins:
            twin(torch.ones(5, 2))
        model(torch.ones(1, 2))
    assert census.report().layers[0].samples == 1
    assert hooks(pickle.loads(pickle.dumps(model))) == hooks(copy.deepcopy(model)) == 0


def test_memory_does_not_grow_with_the_batches():
    def tensors() -> int:
        gc.collect()
        return sum(t.numel() for t in gc.get_objects() if type(t) is torch.Tensor)

    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    x = torch.randn(1000, 4)
    sizes = []
    with watch(model) as census, torch.no_grad():
        for _ in range(3):
            for _ in range(20):
                model(x)
            sizes.append(tensors())
    assert sizes[0] == sizes[1] == sizes[2]
    (counts,) = census._counts._step.values()
    held_tensors = [value for value in vars(counts).values() if isinstance(value, torch.Tensor)]
    assert [tuple(value.shape) for value in held_tensors] == [(5, 8), (4, 8)]


class Smooth(nn.Module):
    def forward(self, x):
        return torch.tanh(x).clamp(min=1e-6).clamp(-1, 1)


@pytest.mark.parametrize(
    ("model", "data", "error", "text"),
    [
        ("net", [torch.ones(1, 1)], TypeError, r"model must be a torch\.nn\.Module, not str"),
        (
            Smooth(),
            [torch.ones(1, 1)],
            ValueError,
            r"no rectifier was called in Smooth: neither nn\.ReLU, nn\.LeakyReLU, nn\.PReLU, nn\.RReLU, nn\.ReLU6, "
            r"nn\.Threshold, a layer of leakyrelu\.torch or a subclass among its 1 modules, nor F\.relu, x\.relu_\(\), "
            r"x\.clamp\(min=0\) and the like\. Fused or compiled kernels are not seen: run the model without them",
        ),
        (nn.ReLU(), [], ValueError, r"data holds no batch: an empty loader, or a generator that was used up"),
        (nn.ReLU(), iter(()), ValueError, r"data holds no batch"),
        (
            nn.ReLU(),
            3,
            TypeError,
            r"an iterable of batches, not int: .*DataLoader\(dataset, batch_size=64\) of a data set",
        ),
        (nn.ReLU(), "batch", TypeError, r"data must be an iterable of batches, not str"),
        (nn.ReLU(), np.ones((2, 2)), TypeError, r"batch 0 is an ndarray: .* \(torch\.from_numpy makes a tensor"),
        (nn.ReLU(), [torch.ones(1, 1), "x"], TypeError, r"batch 1 is a str: a batch must be a tensor, a tuple or list"),
        (nn.ReLU(), [("x", 1)], TypeError, r"batch 0 is a tuple that starts with a str: "),
        (nn.ReLU(), [()], TypeError, r"batch 0 is a tuple: "),
        (
            nn.ReLU(),
            [{1: torch.ones(1)}],
            TypeError,
            r"batch 0 is a dict of keyword arguments, but its key 1 is not a string",
        ),
        (
            nn.ReLU(),
            [{"input": torch.ones(1)}, {"input": np.ones(1)}],
            TypeError,
            r"batch 1 holds an ndarray for 'input', and the model takes tensors: torch\.from_numpy makes a tensor",
        ),
        (nn.ReLU(), {}, ValueError, "batch 0 is an empty dict: give the keyword arguments of the model"),
        (
            torch.compile(nn.ReLU(), backend="eager"),
            [torch.ones(1)],
            ValueError,
            r"the model is compiled by torch\.compile",
        ),
    ],
)
def test_errors_say_cause_and_remedy(model, data, error, text):
    with pytest.raises(error, match=text):
        diagnose(model, data)
    if isinstance(model, nn.Module):
        assert hooks(model) == 0


def test_the_activations_own_error_comes_through():
    model = nn.ReLU()
    with watch(model), pytest.raises(TypeError):
        model()


def test_a_failed_start_leaves_no_hook():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())

    class Full(nn.ReLU):
        def register_forward_pre_hook(self, *args, **kwargs):
            raise RuntimeError("no more hooks")

    model.append(Full())
    with pytest.raises(RuntimeError, match="no more hooks"), watch(model):
        pass
    assert hooks(model) == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"unit_axis": 3}, "unit_axis must be a mapping from names to axes, such as .*, not int: 3"),
        ({"unit_axis": ["1"]}, "unit_axis must be a mapping from names to axes, .* not list"),
        ({"unit_axis": {1: 1}}, "unit_axis maps names to integers, .* not 1 to 1"),
        ({"unit_axis": {"1": "a"}}, "unit_axis maps names to integers, .* not '1' to 'a'"),
        ({"unit_axis": {"1": 1.0}}, "unit_axis maps names to integers, .* not '1' to 1.0"),
        ({"unit_axis": {"1": None}}, "unit_axis maps names to integers, .* not '1' to None"),
        ({"every": 1.5}, "every must be an integer, not float: 1.5"),
        ({"every": "a"}, "every must be an integer, not str: 'a'"),
        ({"every": 5, "keep": 1.5}, "keep must be an integer, not float: 1.5"),
    ],
)
def test_options_of_a_wrong_kind_are_refused_by_name(options, text):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(TypeError, match=text):
        watch(model, **options)


def test_integers_of_numpy_are_integers():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    assert diagnose(model, torch.ones(5, 2), unit_axis={"1": np.int64(0)}).units == 5
    assert watch(model, every=np.int32(2)).history.steps == ()


class Plain(nn.Module):
    def forward(self, x):
        return torch.relu(x)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta:UserWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda x: x.to_sparse(), r"sparse \(torch.sparse_coo\)"),
        (lambda x: x.to_sparse_csr(), r"sparse \(torch.sparse_csr\)"),
        (lambda x: torch.nested.nested_tensor([x, x[:2]]), "nested"),
        (lambda x: torch.nested.nested_tensor([x, x[:2]], layout=torch.jagged), "nested"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "quantized"),
    ],
)
def test_a_tensor_that_cannot_be_counted_is_named(make, kind):
    with watch(Plain()) as census, pytest.raises(TypeError, match=rf"'relu\(\)' is called on a {kind} tensor"):
        census.model(make(torch.randn(5, 3)))


def test_a_complex_input_is_refused_in_the_words_of_pytorch():
    with pytest.raises((RuntimeError, NotImplementedError)) as plain:
        torch.relu(torch.ones(2, 3) + 1j)
    with pytest.raises(type(plain.value)) as watched:
        diagnose(Plain(), torch.ones(2, 3) + 1j)
    assert str(watched.value) == str(plain.value)
