"""Calls that replace_relu rewrote, beside checkpoints, hooks, threads, watch, revive and save_memory."""

import copy
import math
import pickle
import threading

import pytest
import torch
import torch.nn.functional as F
from support.leaky_calls import SLOPE, Own, Plain, check, leaky, rewritten
from torch import nn
from torch.utils.checkpoint import checkpoint

from leakyrelu.torch import diagnose, replace_relu, restore, revive, save_memory, watch
from leakyrelu.torch.rewrite.function_calls import LeakyFunction


def test_replicas_in_threads(x):
    model, reference, _ = rewritten()
    model.eval()
    expected = reference.eval().by_hand(x)
    outputs = {}

    def run(k):
        replica = model._replicate_for_data_parallel()
        outputs[k] = [replica(x), torch.relu(x), model(x), F.relu(x)]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, plain, two, also_plain in outputs.values():
        torch.testing.assert_close((one, two), (expected, expected))
        torch.testing.assert_close((plain, also_plain), (x.clamp(0, math.inf),) * 2)


def test_hooks_see_relu_as_it_is(x):
    """What hooks call is no call of the forward method."""
    model, reference, _ = rewritten()
    seen = []
    for module in (model, model.stem, model.blocks[0]):
        module.register_forward_hook(lambda module, args, output: seen.append((output.relu(), output)))
    check(model, reference, x)
    assert len(seen) == 3
    for relu, output in seen:
        torch.testing.assert_close(relu, torch.maximum(output, torch.zeros(())))


class Checkpointed(nn.Module):
    def __init__(self, reentrant=False):
        super().__init__()
        self.line, self.block, self.function, self.reentrant = nn.Linear(6, 6), Own(), False, reentrant

    def inner(self, x):
        return F.relu(self.line(x))

    def forward(self, x):
        y = checkpoint(self.block, x, use_reentrant=self.reentrant)
        return F.relu(y) + (checkpoint(self.inner, y, use_reentrant=self.reentrant) if self.function else self.inner(y))

    def by_hand(self, x):
        y = self.block.by_hand(x)
        return leaky(y) + leaky(self.line(y))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True:UserWarning")
def test_checkpoints_of_modules(x, reentrant):
    model, reference, report = rewritten(lambda: Checkpointed(reentrant))
    assert set(report.rewritten) == {("", "relu", 2), ("block", "relu", 1)}
    check(model, reference, x)
    model.function = True
    remedy = "is called inside torch.utils.checkpoint, .* give checkpoint a module instead of a function, or call leaky"
    with pytest.raises(RuntimeError, match=remedy):
        model(x.requires_grad_())


def test_what_runs_apart_is_left(x):
    class Apart(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, gradient):
            return 7 * gradient

    class Functions(nn.Module):
        def forward(self, x):
            return Apart.apply(x)

    def make():
        model = nn.Sequential(Checkpointed(), Functions())
        model[0].function = True
        return model

    model, reference, report = rewritten(make)
    assert [name for name, _, _ in report.rewritten] == ["0.block"]
    assert report.left == (
        (
            "0",
            "its forward method calls relu: this stays, torch.utils.checkpoint calls it again in the backward pass, "
            "outside of the method; give it a module instead of a function",
        ),
        (
            "1",
            "its forward method calls clamp(min=0): this stays, it is part of a torch.autograd.Function, which has a "
            "backward of its own",
        ),
    )
    y = reference[0].block.by_hand(x)
    torch.testing.assert_close(model(x), torch.relu(torch.relu(y) + torch.relu(reference[0].line(y))))


def test_the_census_sees_leaky_relu(x):
    model, reference, _ = rewritten()
    layers = {layer.name: layer for layer in diagnose(model, [x]).layers}
    stem = layers["leaky_relu()"]
    assert stem.negative_slope == SLOPE
    share = (reference.eval().stem(x) > 0).double().mean(0)
    torch.testing.assert_close(torch.from_numpy(stem.positive_share), share)
    kinds = [layer.kind for name, layer in layers.items() if name.startswith("blocks.0.")]
    assert {kind: kinds.count(kind) for kind in kinds} == {"leaky_relu": 14, "clamp": 2, "relu6": 1}
    with watch(model.blocks[0]) as census:
        model(x)
    kinds = {layer.kind: layer.negative_slope for layer in census.report().layers if layer.kind != "relu6"}
    assert kinds == {"leaky_relu": SLOPE, "clamp": 0.0}


def test_revive_finds_the_calls(x):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.three(self.two(F.relu(self.one(x))).relu())

    model, _, report = rewritten(Two)
    assert report.rewritten == (("", "relu", 2),)
    with torch.no_grad():
        for line in (model.one, model.two):
            line.bias[2] = -100.0
    done = revive(model, diagnose(model, [x] * 20), fold_mean=True)
    assert list(done.revived) == ["leaky_relu()", "leaky_relu(), call 2"]
    assert all(2 in units for units in done.revived.values())


def test_save_memory_before_and_after(x):
    def make():
        return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.LeakyReLU(0.1), Own(), nn.ReLU())

    model, reference, _ = rewritten(make)
    other = copy.deepcopy(reference)
    assert save_memory(other).joined == save_memory(model).joined == (("1", "2"),)
    replace_relu(other, SLOPE)
    expected = leaky(reference[3].by_hand(leaky(reference[1](reference[0](x)), 0.1)))
    for each in (model, other):
        torch.testing.assert_close(each(x), expected)
        restore(each)
        torch.testing.assert_close(each(x), expected)


def test_one_bit_an_element_is_kept(monkeypatch):
    monkeypatch.setattr("leakyrelu.torch.activations.functional._SMALL", 0)

    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.act = Plain(), nn.ReLU()

        def forward(self, x):
            return self.act(self.inner(F.relu(x)))

    model, _, _ = rewritten(Nested)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        model(torch.randn(800, requires_grad=True))
    assert [t.untyped_storage().nbytes() for t in kept] == [100, 100, 100]


def test_a_stored_function_is_exchanged(x):
    class Stored(nn.Module):
        def __init__(self):
            super().__init__()
            self.line, self.act, self.over = nn.Linear(6, 6), F.relu, torch.relu_

        def forward(self, x):
            y = self.act(self.line(x), True) if x.sum() == x.sum() else x
            return self.over(y.clone()) + self.act(y)

        def by_hand(self, x):
            y = leaky(self.line(x))
            return leaky(y) + leaky(y)

    model, reference, report = rewritten(Stored)
    assert report.stored == ("act", "over")
    assert (model.act, model.over) == (LeakyFunction(SLOPE), LeakyFunction(SLOPE, True))
    assert report.rewritten == ()
    assert repr(report).splitlines()[1:3] == ["  stored     act", "  stored     over"]
    check(model, reference, x)
    y = torch.tensor([-1.0])
    assert model.over(y) is y
    assert pickle.loads(pickle.dumps(model.act)) == model.act


@pytest.mark.parametrize("activation", ["relu", nn.ReLU()])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
def test_transformer_in_evaluation(activation):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation=activation, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    by_hand = nn.TransformerEncoder(copy.deepcopy(layer), 2)
    by_hand.load_state_dict(model.state_dict())
    for each in by_hand.layers:
        del each.activation
        each.activation, each.activation_relu_or_gelu = leaky, 0
    by_hand.use_nested_tensor = False
    report = replace_relu(model, SLOPE)
    assert report.stored + report.swapped == ("layers.0.activation", "layers.1.activation")
    x = torch.randn(2, 3, 8)
    mask = torch.tensor([[False, False, True], [False, False, False]])
    for training in (True, False):
        with torch.set_grad_enabled(training):
            expected = by_hand.train(training)(x, src_key_padding_mask=mask)
            torch.testing.assert_close(model.train(training)(x, src_key_padding_mask=mask), expected)
