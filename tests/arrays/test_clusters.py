"""A Dask cluster, joblib's threads, sparse arrays, memory maps larger than memory, user-defined arrays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import joblib
import numpy as np
import pytest
import sparse
from oracle import reference
from oracle.reference import same_bits

import leakyrelu
from leakyrelu import _core, leaky_relu, leaky_relu_backward, leaky_relu_inverse

# In a process of its own: the workers are started from a file, and their limits and threads stay with them.
CLUSTER = """
import json, os, sys
import dask, dask.array as da, numpy as np
from distributed import Client, LocalCluster
import leakyrelu

LIMIT, ROWS, COLUMNS = 384_000_000, 320, 500_000  # 640 MB of float32, 16 MB a chunk

def block(block_id):
    return np.random.default_rng(block_id[0]).normal(size=(8, COLUMNS)).astype(np.float32)

if __name__ == "__main__":
    dask.config.set({"distributed.worker.memory.terminate": 0.95, "distributed.comm.timeouts.connect": "120s"})
    shape = dict(n_workers=2, threads_per_worker=2, processes=True, memory_limit=LIMIT)
    with LocalCluster(**shape, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            chunks, meta = ((8,) * (ROWS // 8), (COLUMNS,)), np.empty((0, 0), np.float32)
            x = da.map_blocks(block, chunks=chunks, dtype=np.float32, meta=meta)
            y = leakyrelu.leaky_relu(x, 0.25)
            total, dtype, size = y.sum(dtype=np.float64).compute(), str(y.dtype), y.nbytes
            pids = client.run(os.getpid)
            print(json.dumps([float(total), dtype, size, LIMIT, len(set(pids.values()))]))
"""


def test_dask_cluster_over_more_than_a_worker_holds(tmp_path):
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    total, dtype, size, limit, workers = json.loads(done.stdout.splitlines()[-1])
    assert dtype == "float32"
    assert size > limit
    assert workers == 2
    expected = 0.0
    for row in range(40):
        block = np.random.default_rng(row).normal(size=(8, 500_000)).astype(np.float32)
        expected += reference.leaky_relu(block, 0.25).sum(dtype=np.float64)
    assert total == pytest.approx(expected, rel=1e-12)


def test_sparse_stays_sparse():
    dense = np.random.default_rng(0).normal(size=(200, 300)) * (np.random.default_rng(1).random((200, 300)) < 0.02)
    array = sparse.COO.from_numpy(dense)
    for result, expected in (
        (leaky_relu(array, 0.1), reference.leaky_relu(dense, 0.1)),
        (leaky_relu_inverse(array, 0.1), reference.leaky_relu_inverse(dense, 0.1)),
        (leaky_relu_backward(array, array, 0.1), reference.leaky_relu_backward(dense, dense, 0.1)),
    ):
        assert isinstance(result, sparse.COO)
        assert result.nnz == array.nnz
        assert result.fill_value == 0
        np.testing.assert_array_equal(result.todense(), expected)


def test_threads_of_joblib_do_not_multiply_ours():
    x = reference.samples(np.float32, 3_000_017, seed=4)
    with np.errstate(all="ignore"):
        expected = reference.leaky_relu(x, 0.3)

        def compute(_):
            with np.errstate(all="ignore"):
                y = leaky_relu(x, 0.3)
            return same_bits(y, expected), len(os.listdir("/proc/self/task"))

        def rest(_):
            time.sleep(0.01)
            return len(os.listdir("/proc/self/task"))

        with joblib.Parallel(n_jobs=4, backend="threading") as pool:  # one set of threads for both
            threads_of_joblib = max(pool(joblib.delayed(rest)(i) for i in range(16)))
            answers = pool(joblib.delayed(compute)(i) for i in range(16))
    assert all(right for right, _ in answers)
    assert max(count for _, count in answers) <= threads_of_joblib + leakyrelu.get_num_threads() - 1


def test_memory_map_larger_than_what_is_touched(tmp_path):
    """A sparse file of 64 GiB: only the part that is asked for is read and written."""
    path = tmp_path / "large.bin"
    rows, columns = 1 << 14, 1 << 20
    mapped = np.memmap(path, dtype=np.float32, mode="w+", shape=(rows, columns))
    mapped[5000, :1000] = np.linspace(-1, 1, 1000, dtype=np.float32)
    expected = reference.leaky_relu(np.array(mapped[5000]), 0.1)
    assert same_bits(np.asarray(leaky_relu(mapped[5000], 0.1)), expected)
    leaky_relu(mapped[5000], 0.1, out=mapped[5000])
    assert same_bits(np.array(mapped[5000]), expected)
    mapped.flush()
    assert path.stat().st_size == 64 << 30
    assert path.stat().st_blocks * 512 < 64 << 20


class Logged:
    """A user-defined array that implements the protocol and records the calls."""

    def __init__(self, values):
        self.values, self.calls = values, []

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        self.calls.append((ufunc.__name__, method, sorted(keywords)))
        plain = [one.values if isinstance(one, Logged) else one for one in inputs]
        return Logged(ufunc(*plain, **keywords))


def test_any_object_with_the_protocol():
    logged = Logged(np.array([-2.0, 4.0]))
    result = leaky_relu(logged, 0.5)
    assert isinstance(result, Logged)
    assert result.values.tolist() == [-1.0, 4.0]
    assert leaky_relu(np.array([-2.0, 4.0]), logged).values.tolist() == [4.0, 4.0]
    assert leaky_relu_backward(logged, np.array([-1.0, 1.0]), 0.5).values.tolist() == [-1.0, 4.0]
    assert leaky_relu_inverse(logged, 0.5).values.tolist() == [-4.0, 4.0]
    assert [name for name, method, _ in logged.calls if method == "__call__"] == [
        "leaky_relu",
        "leaky_relu",
        "leaky_relu_backward",
        "leaky_relu_inverse",
    ]


class Declines:
    __array_ufunc__ = None


def test_an_object_that_declines_the_protocol_is_refused():
    with pytest.raises(TypeError, match="does not support ufuncs"):
        leaky_relu(Declines(), 0.5)
    with pytest.raises(TypeError, match="does not support ufuncs"):
        _core.leaky_relu(np.zeros(2), Declines())
