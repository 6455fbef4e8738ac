"""A ReLU inside a `torch.autograd.Function` stays one: its hand-written backward would not fit another forward."""

import functools
import gc
import inspect
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from leakyrelu.torch import replace_relu

SLOPE = 0.3
REASON = "it is part of a torch.autograd.Function, which has a backward of its own"


class WithContext(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0] > 0)


class WithSetup(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.clamp(min=0)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0] > 0)


def through_a_helper(x):
    return torch.relu(x)


class WithHelper(WithSetup):
    @staticmethod
    def forward(x):
        return through_a_helper(x)


class Nested(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        with torch.enable_grad():  # as layers do that compute their derivative by autograd
            return WithSetup.apply(x.detach()).detach()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


class Decorated(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx, x):
        return x.clamp(min=0)

    backward = staticmethod(decorated(lambda ctx, gradient: gradient))


class Partial(WithSetup):
    forward = functools.partial(torch.clamp, min=0)  # no code in Python
    forward.__signature__ = inspect.Signature([inspect.Parameter("x", inspect.Parameter.POSITIONAL_ONLY)])


FUNCTIONS = [WithContext, WithSetup, WithHelper, Nested, Decorated, Partial]


class Own(nn.Module):
    """Calls a ReLU of its own, and one inside a function where it is given one."""

    def __init__(self, function, call):
        super().__init__()
        self.function, self.call = function, call

    def forward(self, x):
        return F.relu(x) + (self.call(self.function.apply, x) if self.function else 0)


class FunctionAlone(Own):
    def forward(self, x):
        return self.call(self.function.apply, x)


def plainly(apply, x):
    return apply(x)


def in_a_checkpoint(apply, x):
    return checkpoint(apply, x, use_reentrant=False)


def without_gradients(apply, x):
    with torch.no_grad():
        return apply(x)


def in_inference(apply, x):
    with torch.inference_mode():
        return apply(x)


# A function without code in Python leaves no sign in inference mode, where no gradient can be wrong. In a checkpoint it
# cannot be told from what the checkpoint calls, which is refused.
CASES = [
    (function, call)
    for function in FUNCTIONS
    for call in (plainly, in_a_checkpoint, without_gradients, in_inference)
    if function is not Partial or call in (plainly, without_gradients)
]


@pytest.mark.parametrize(("function", "call"), CASES)
def test_a_function_is_seen_in_the_trace(function, call):
    model = FunctionAlone(function, call)
    report = replace_relu(model, SLOPE)
    assert report.rewritten == ()
    ((name, reason),) = report.left
    assert name == ""
    assert reason.endswith(REASON)
    x = torch.tensor([-2.0, 3.0], requires_grad=True)
    y = model(x)
    assert y.tolist() == [0.0, 3.0]
    if y.requires_grad:
        y.sum().backward()
        assert x.grad.tolist() == torch.autograd.grad(function.apply(x).sum(), x)[0].tolist()


@pytest.mark.parametrize(("function", "call"), CASES)
def test_a_function_that_no_trace_saw_stays_at_run_time(function, call):
    model = Own(None, call)
    assert replace_relu(model, SLOPE).rewritten == (("", "relu", 1),)
    model.function = function
    x = torch.tensor([-2.0, 3.0], requires_grad=True)
    assert model(x).tolist() == pytest.approx([-2.0 * SLOPE, 6.0])


def test_calls_in_inference_mode_are_rewritten():
    class Model(nn.Module):
        def forward(self, x):
            with torch.inference_mode():
                return F.relu(x)

    model = Model()
    assert replace_relu(model, SLOPE).rewritten == (("", "relu", 1),)
    assert model(torch.tensor([-2.0, 3.0])).tolist() == pytest.approx([-2.0 * SLOPE, 3.0])


def test_a_module_within_a_function_is_rewritten():
    class Runs(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, module):
            return module(x)

        @staticmethod
        def backward(ctx, gradient):
            return gradient, None

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Own(WithSetup, plainly)
            self.inner.function = None

        def forward(self, x):
            return Runs.apply(x, self.inner)

    model = Around()
    assert replace_relu(model, SLOPE).rewritten == (("inner", "relu", 1),)
    x = torch.tensor([-2.0, 3.0], requires_grad=True)
    assert model(x).tolist() == pytest.approx([-2.0 * SLOPE, 3.0])
    model.inner.function = WithSetup  # one function in another
    assert model(x).tolist() == pytest.approx([-2.0 * SLOPE, 6.0])


def test_the_backward_pass_of_another_graph_is_left():
    class Energy(nn.Module):
        def forward(self, x):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                y = F.relu(x)
                y.register_hook(lambda gradient: gradient.clamp(min=0) if self.guided else gradient)
                return torch.autograd.grad((y * torch.tensor([-1.0, 5.0])).sum(), x)[0]

        guided = True

    model = Energy()
    x = torch.tensor([4.0, 3.0])
    assert model(x).tolist() == [0.0, 5.0]
    replace_relu(model, SLOPE)
    assert model(x).tolist() == [0.0, 5.0]


def test_a_method_is_known_from_its_first_call_on():
    """Classes that come later, one for each call, are functions like the others."""

    def apply_new(x):
        class New(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clamp(min=0)

        return New.apply(x)

    class Model(nn.Module):
        apply = None

        def forward(self, x):
            return F.relu(x) if self.apply is None else self.apply(x)

    model = Model()
    replace_relu(model, SLOPE)
    model.apply = apply_new
    for _ in range(2):
        assert model(torch.tensor([-2.0, 3.0])).tolist() == [0.0, 3.0]


def test_code_that_a_model_makes_is_not_kept():
    class Model(nn.Module):
        def forward(self, x):
            made = {"F": F}
            exec("def apply(x): return F.relu(x)", made)
            self.code = weakref.ref(made["apply"].__code__)
            return made["apply"](x)

    model = Model()
    replace_relu(model, SLOPE)
    assert model(torch.tensor([-2.0, 3.0])).tolist() == pytest.approx([-2.0 * SLOPE, 3.0])
    gc.collect()
    assert model.code() is None
