"""Threads: how many, after fork, from many callers at once, and always the same values."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from oracle import reference
from oracle.reference import same_bits

import leakyrelu
from leakyrelu import _core, get_num_threads, set_num_threads

LONG = 3_000_017  # several pieces, and no multiple of anything
USABLE = _core.config()["usable_cpus"]


@pytest.fixture(autouse=True)
def restore_threads():
    before = get_num_threads()
    yield
    set_num_threads(before)


def in_a_new_process(code, **environment):
    cleared = {key: value for key, value in os.environ.items() if not key.endswith("NUM_THREADS")}
    return subprocess.run(
        [sys.executable, "-c", code], env={**cleared, **environment}, capture_output=True, text=True, check=False
    )


COUNT = "import leakyrelu; print(leakyrelu.get_num_threads())"


def test_every_usable_cpu_by_default():
    assert in_a_new_process(COUNT).stdout.split() == [str(USABLE)]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LEAKYRELU_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "1,4"}, 1),
        ({"LEAKYRELU_NUM_THREADS": str(USABLE), "OMP_NUM_THREADS": "1"}, USABLE),
        ({"LEAKYRELU_NUM_THREADS": "10000"}, USABLE),
        ({"LEAKYRELU_NUM_THREADS": "99999999999999999999"}, USABLE),
        ({"LEAKYRELU_NUM_THREADS": ""}, USABLE),
        ({"OMP_NUM_THREADS": "many"}, USABLE),
    ],
)
def test_environment(environment, expected):
    assert in_a_new_process(COUNT, **environment).stdout.split() == [str(expected)]


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5"])
def test_nonsense_in_our_own_variable_is_refused(value):
    done = in_a_new_process(COUNT, LEAKYRELU_NUM_THREADS=value)
    assert done.returncode != 0
    assert f"LEAKYRELU_NUM_THREADS={value} is not a number of threads; set it to 1 or more" in done.stderr


def test_never_more_than_the_affinity_mask():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    code += f"{COUNT}; leakyrelu.set_num_threads(64); print(leakyrelu.get_num_threads())"
    assert in_a_new_process(code).stdout.split() == ["1", "1"]


def test_set_num_threads():
    set_num_threads(1)
    assert get_num_threads() == 1
    for many in (10_000, 1 << 40, 10**30):
        set_num_threads(many)
        assert get_num_threads() == USABLE
    for wrong in (0, -1, -(10**30)):
        with pytest.raises(ValueError, match=rf"set_num_threads: {wrong} is not a number of threads; give 1 or more"):
            set_num_threads(wrong)
    with pytest.raises(TypeError):
        set_num_threads(1.5)


def test_show_config(capsys):
    leakyrelu.show_config()
    printed = capsys.readouterr().out
    assert leakyrelu.__version__ in printed
    assert f"instruction set: {_core.config()['isa']}" in printed
    assert f"this process may use {USABLE} CPUs" in printed
    assert f"last cache of a core: {_core.config()['cache_bytes'] / 2**20:g} MiB" in printed


def test_streaming_goes_by_the_last_cache_of_one_core():
    """Not by the sum over all cores, which is what glibc reports for an AMD EPYC."""
    caches = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")
    sizes = {int((at / "level").read_text()): (at / "size").read_text().strip() for at in caches}
    if not sizes or max(sizes) < 3:
        assert _core.config()["cache_bytes"] >= 2**20
        return
    highest = sizes[max(sizes)]
    assert _core.config()["cache_bytes"] == int(highest[:-1]) * {"K": 2**10, "M": 2**20}[highest[-1]]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", reference.DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("threads", [1, USABLE])
def test_long_runs_give_the_same_values_for_any_number_of_threads(threads, dtype):
    set_num_threads(threads)
    x = reference.samples(dtype, LONG, seed=1)
    grad = x[::-1].copy()
    signs = reference.signs(x)
    slopes = np.linspace(-1, 1, 7, dtype=np.float32)
    expected = reference.leaky_relu(x, 0.2)
    assert same_bits(leakyrelu.leaky_relu(x, 0.2), expected)
    assert same_bits(_core.leaky_relu(x, 0.2), expected)
    y, packed = leakyrelu.leaky_relu_with_signs(x, 0.2)
    assert same_bits(y, expected)
    np.testing.assert_array_equal(packed, signs)
    expected = reference.leaky_relu_backward(grad, x, 0.2)
    assert same_bits(leakyrelu.leaky_relu_backward(grad, x, 0.2), expected)
    assert same_bits(leakyrelu.leaky_relu_backward_from_signs(grad, signs, 0.2), expected)
    assert same_bits(leakyrelu.leaky_relu_inverse(x, 0.2), reference.leaky_relu_inverse(x, 0.2))
    for shape, alpha in (((-1, 7), slopes), ((7, -1), slopes[:, None]), ((3, 7, -1), slopes[:, None])):
        view = x[: LONG // 21 * 21].reshape(shape)
        assert same_bits(leakyrelu.leaky_relu(view, alpha), reference.leaky_relu(view, alpha))
        y, packed = leakyrelu.leaky_relu_with_signs(view, alpha)
        assert same_bits(y, reference.leaky_relu(view, alpha))
        np.testing.assert_array_equal(packed, reference.signs(view))
        back = leakyrelu.leaky_relu_backward_from_signs(view, packed, alpha)
        assert same_bits(back, reference.leaky_relu_backward(view, view, alpha))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_runs_past_the_cache_in_place_and_apart(offset):
    x = reference.samples(np.float32, 14_000_003, seed=3)[offset:]  # 56 MB in, 56 MB out: stores are streamed
    expected = reference.leaky_relu(x, 0.2)
    out = np.full_like(x, np.nan)
    assert same_bits(leakyrelu.leaky_relu(x, 0.2, out=out), expected)
    y, signs = leakyrelu.leaky_relu_with_signs(x, 0.2, out=np.full_like(x, np.nan))
    assert same_bits(y, expected)
    np.testing.assert_array_equal(signs, reference.signs(x))
    assert same_bits(leakyrelu.leaky_relu_backward_from_signs(x, signs, 0.2, out=out), expected)
    assert same_bits(leakyrelu.leaky_relu(y, 0.5, out=y), reference.leaky_relu(expected, 0.5))


def test_flags_raised_on_any_thread_become_one_warning():
    x = np.ones(LONG, np.float32)
    x[-1] = -np.finfo(np.float32).max
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow encountered in leaky_relu"):
        leakyrelu.leaky_relu(x, 10.0)
    with np.errstate(all="raise"):
        leakyrelu.leaky_relu(np.full(LONG, np.finfo(np.float32).max), 10.0)


def compute_in_child(queue):
    x = np.linspace(-1, 1, LONG, dtype=np.float32)
    queue.put(float(leakyrelu.leaky_relu(x, 0.5).sum(dtype=np.float64)))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("busy", [False, True])
def test_a_forked_child_computes(busy):
    """Forked from a process that has computed, also while its other threads compute."""
    x = np.linspace(-1, 1, LONG, dtype=np.float32)
    expected = float(leakyrelu.leaky_relu(x, 0.5).sum(dtype=np.float64))
    stop = threading.Event()

    def keep_busy():
        y = np.empty_like(x)
        while not stop.is_set():
            leakyrelu.leaky_relu(x, 0.5, out=y)

    threads = [threading.Thread(target=keep_busy) for _ in range(2 if busy else 0)]
    for thread in threads:
        thread.start()
    try:
        context = multiprocessing.get_context("fork")
        for _ in range(10):
            queue = context.SimpleQueue()
            child = context.Process(target=compute_in_child, args=(queue,))
            child.start()
            assert queue.get() == expected
            child.join()
            assert child.exitcode == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_many_python_threads_at_once():
    """Every caller gets its own correct result."""
    arrays = [reference.samples(np.float64, LONG // 4, seed=seed) for seed in range(8)]
    expected = [reference.leaky_relu(x, 0.3) for x in arrays]
    with concurrent.futures.ThreadPoolExecutor(8) as pool, np.errstate(all="ignore"):
        for _ in range(5):
            for result, right in zip(
                pool.map(lambda x: leakyrelu._core.leaky_relu(x, 0.3), arrays), expected, strict=True
            ):
                assert same_bits(result, right)


def test_the_first_bfloat16_arrays_come_from_many_threads_at_once():
    code = """
import sys, threading
import ml_dtypes, numpy as np
sys.setswitchinterval(1e-6)
from leakyrelu import _core
x = np.full(100, -2, ml_dtypes.bfloat16)
wrong, gate = [], threading.Barrier(16)
def compute():
    gate.wait()
    try:
        assert (_core.leaky_relu(x, 0.5) == -1).all()
        assert (_core.leaky_relu_backward(x, x, 0.5) == -1).all()
    except BaseException as error:
        wrong.append(error)
threads = [threading.Thread(target=compute) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(wrong)
"""
    for _ in range(3):
        done = in_a_new_process(code)
        assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("first", ["", "import leakyrelu.torch"], ids=["own helpers", "PyTorch's OpenMP"])
def test_a_pool_of_callers_does_not_multiply_threads(first):
    code = f"""
{first}
import concurrent.futures, os, sys
import numpy as np, leakyrelu
x = np.linspace(-1, 1, 4_000_000, dtype=np.float32)
workers = leakyrelu.get_num_threads()
before = len(os.listdir("/proc/self/task"))
with concurrent.futures.ThreadPoolExecutor(4 * workers) as pool:
    list(pool.map(lambda _: leakyrelu.leaky_relu(x, 0.1), range(200)))
    print(len(os.listdir("/proc/self/task")) - before - len(pool._threads), workers)
"""
    done = in_a_new_process(code, OMP_NUM_THREADS=str(USABLE), OPENBLAS_NUM_THREADS="1")
    extra, workers = map(int, done.stdout.split())
    assert extra <= workers - 1, done.stderr


def test_what_is_no_number_of_threads():
    before = get_num_threads()
    for count, kind in ((1.5, "float"), ("2", "str"), ([2], "list"), (None, "NoneType")):
        with pytest.raises(TypeError, match=rf"number of threads must be an integer, not {kind}: "):
            set_num_threads(count)
    assert get_num_threads() == before


def test_any_number_beyond_the_machine_counts_as_the_machine():
    before = get_num_threads()
    try:
        set_num_threads(np.int64(4096))
        most = get_num_threads()
        for count in (2**20 + 1, 2**32, 10**30):
            set_num_threads(1)
            set_num_threads(count)
            assert get_num_threads() == most
    finally:
        set_num_threads(before)


def test_signals_that_the_program_blocks_are_not_taken_by_our_helpers():
    code = """
import os, signal, numpy as np, leakyrelu
leakyrelu.leaky_relu(np.ones(4_000_000, np.float32))  # our helpers are there
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
print(signal.sigwait([signal.SIGTERM]) == signal.SIGTERM)
"""
    done = in_a_new_process(code, OPENBLAS_NUM_THREADS="1")
    assert done.stdout.strip() == "True", (done.returncode, done.stderr)


def test_an_interpreter_ends_while_daemons_compute():
    code = """
import threading, time
import numpy as np, leakyrelu
from leakyrelu import _core
x = np.ones(300_000, np.float32)
def compute(i, x, y, invstd):  # which stay when the interpreter clears its modules
    at = x.ctypes.data, y.ctypes.data, invstd.ctypes.data
    layer, layout = (0, True, 0.5, None, None), (_core.DTYPES["float32"], 1, 3, 100_000, False, 0)
    while True:
        if i % 3 == 0:
            leakyrelu.leaky_relu(x, np.full(1, 0.5))
        elif i % 3 == 1:
            leakyrelu.leaky_relu_with_signs(x, 0.5)
        else:
            _core.norm_forward_at(layout, layer, 0.1, (0.0, 1.0, 1.0), None, *at)
for i in range(12):
    threading.Thread(target=compute, args=(i, x, x.copy(), x[:3].copy()), daemon=True).start()
time.sleep(0.05)
"""
    for _ in range(12):
        done = in_a_new_process(code)
        assert (done.returncode, done.stderr) == (0, "")
