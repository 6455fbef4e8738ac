"""Two processes, gloo: the losses of the network that save_memory rewrote are those of the network as it was."""

import json
import subprocess
import sys

import numpy as np
import pytest
from support import ROOT
from support.distributed_worker import network, train

WORKER = ROOT / "tests" / "support" / "distributed_worker.py"


def results(mode, folder):
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(folder / "store"), mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    found = []
    for worker in workers:
        out, error = worker.communicate()
        assert worker.returncode == 0, error[-3000:]
        found.append(json.loads(out.splitlines()[-1]))
    return found


@pytest.fixture(scope="module")
def ddp(tmp_path_factory):
    return results("ddp", tmp_path_factory.mktemp("ddp"))


@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_distributed_data_parallel(ddp, kind):
    for rank in ddp:
        np.testing.assert_allclose(rank[f"{kind} True"], rank[f"{kind} False"], rtol=1e-10)
    assert ddp[0][f"{kind} True"] != ddp[1][f"{kind} True"]


@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_fully_sharded(kind, sharded):
    for rank in sharded:
        np.testing.assert_allclose(rank[f"{kind} True"], rank[f"{kind} False"], rtol=1e-10)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    return results("fsdp", tmp_path_factory.mktemp("fsdp"))


def test_shared_statistics_are_those_of_one_process_with_the_whole_batch(ddp):
    whole = network("batch")
    losses = train(whole, slice(None))
    np.testing.assert_allclose(np.mean([rank["sync"] for rank in ddp], 0), losses, rtol=1e-10)
    for rank in ddp:
        np.testing.assert_allclose(rank["running"], whole[1].running_var, rtol=1e-10)


def test_second_derivatives_through_shared_statistics_are_refused(ddp):
    for rank in ddp:
        assert rank["second"].startswith("a second derivative through statistics that several processes share")
        assert "Use nn.BatchNorm in place of nn.SyncBatchNorm" in rank["second"]
