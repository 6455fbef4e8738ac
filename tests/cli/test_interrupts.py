"""Ctrl-C ends the command whatever a program of a file does: loops without end, in which no code of Python runs."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from torch import Tensor, nn

from leakyrelu.cli.interrupts import interruptible

# A process that a script starts in the background, as CI may start the tests, inherits an ignored SIGINT.
COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from leakyrelu.cli import main
{before}
sys.exit(main(["diagnose", {file!r}, "--data", "x.npy"]))
"""
BEFORE_ONNX = """
import onnxruntime
run = onnxruntime.InferenceSession.run
onnxruntime.InferenceSession.run = lambda *arguments: (print("begun", flush=True), run(*arguments))[1]
"""
BEFORE_EXPORTED = """
import leakyrelu.torch
diagnose = leakyrelu.torch.diagnose
leakyrelu.torch.diagnose = lambda *arguments, **more: (print("begun", flush=True), diagnose(*arguments, **more))[1]
"""
ONNX = """<ir_version: 8, opset_import: ["":13]> g (float[n,4] x) => (float[n,m] y) <bool t = {1}> {
    h = Loop (, t, x) <body = body (int64 i, bool a, float[n,4] v) => (bool b, float[n,4] w) {
        b = Identity(a)
        w = Identity(v)
    }>
    y = Relu(h)
}"""


class Numbers(nn.Module):
    """A loop that calls nothing."""

    def forward(self, x):
        x = torch.relu(x)
        print("begun")
        n = 0
        while n >= 0:
            n = (n + 1) % 7
        return x + n


class Operators(nn.Module):
    """A loop that calls operators, in which Python records them: its KeyboardInterrupt becomes a RuntimeError."""

    def forward(self, x):
        x = torch.relu(x)
        print("begun")
        while bool(x.sum() >= 0):
            x = x + 0
        return x


class Loading(nn.Module):
    """A loop while the file is loaded."""

    def __init__(self):
        super().__init__()
        self.weight = torch.ones(4)
        self.training = False

    @torch.jit.export
    def __getstate__(self) -> Tensor:
        return self.weight

    @torch.jit.export
    def __setstate__(self, state: Tensor):
        print("begun")
        n = 0
        while n >= 0:
            n = (n + 1) % 7
        self.weight = state
        self.training = False

    def forward(self, x):
        return torch.relu(x * self.weight)


class Exported(nn.Module):
    """A loop of `torch.export`, which runs in Python."""

    def forward(self, x):
        return torch.while_loop(lambda x: x.sum() >= 0, lambda x: (x.relu(),), (x,))[0]


def interrupted(file: str, before: str = "") -> tuple[int, list[str]]:
    """Interrupt the command once the program runs: the exit status, and the lines on standard error."""
    np.save("x.npy", np.ones((2, 4), np.float32))
    code = COMMAND.format(before=before, file=file)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "begun\n"
        run.send_signal(signal.SIGINT)
        return run.wait(), run.stderr.read().splitlines() if run.stderr else []


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("program", [Numbers, Operators])
def test_a_torchscript_program_that_never_ends(program):
    torch.jit.save(torch.jit.script(program()), "loop.pt")
    assert interrupted("loop.pt") == (130, ["leakyrelu: interrupted"])


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_torchscript_file_that_never_loads():
    """PyTorch holds the lock of Python meanwhile, so the signal itself ends the process."""
    torch.jit.save(torch.jit.script(Loading()), "loop.pt")
    assert interrupted("loop.pt") == (-signal.SIGINT, [])


def test_an_exported_program_that_never_ends():
    torch.export.save(torch.export.export(Exported(), (torch.ones(2, 4),)), "loop.pt2")
    assert interrupted("loop.pt2", BEFORE_EXPORTED) == (130, ["leakyrelu: interrupted"])


def test_an_onnx_file_that_never_ends():
    onnx.save(onnx.parser.parse_model(ONNX), "loop.onnx")
    assert interrupted("loop.onnx", BEFORE_ONNX) == (130, ["leakyrelu: interrupted"])


def interrupted_in_torchscript() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise RuntimeError("what TorchScript makes of it") from None


def test_the_handlers_of_the_process_come_back():
    before = signal.getsignal(signal.SIGINT)
    try:
        for handler in (signal.default_int_handler, signal.SIG_IGN):
            signal.signal(signal.SIGINT, handler)
            with pytest.raises(ValueError, match="an error of the program"), interruptible():
                raise ValueError("an error of the program")
            assert signal.getsignal(signal.SIGINT) is handler
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt), interruptible():
            interrupted_in_torchscript()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGINT, before)
