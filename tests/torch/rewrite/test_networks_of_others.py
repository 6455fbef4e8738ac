"""save_memory on small networks of nine libraries, through the benchmark of joined pairs.

The benchmark runs in an environment of its own, which `make test` sets up. The pairs of each network were counted by
hand in its source; the share of the bytes is that of the committed results, rounded up.
"""

import json
import os
import subprocess

import pytest
from support import ROOT

PYTHON = ROOT / ".venv-zoo" / "bin" / "python"
EXPECTED = {  # pairs, share of the bytes
    "timm/resnet18": (9, 0.71),  # an identity and a dropout of 0 in between, and modules that are used twice
    "timm/densenet121": (121, 0.52),  # BatchNormAct2d
    "torchvision/resnet18": (9, 0.71),  # one activation for several places
    "torchvision/googlenet": (57, 0.81),  # functions
    "monai/BasicUNet": (18, 0.65),  # ADN: a dropout between the two
    "monai/DynUNet": (10, 0.73),
    "dynamic-network-architectures/PlainConvUNet 2-D, ReLU": (11, 0.62),  # modules under several names
    "segmentation-models-pytorch/Linknet, mobilenet_v2": (15, 1.0),
    "pytorchcv/preresnet20_cifar10": (19, 0.5),
    "facexlib/BiSeNet": (18, 0.54),  # functions that replace_relu rewrites
    "kornia/HardNet": (6, 0.38),
    "geffnet/mobilenetv2_100": (0, 1.0),  # ReLU6, which is no Leaky ReLU
}


@pytest.mark.skipif(
    not PYTHON.exists() and not os.environ.get("CI"), reason="make zoo-env installs the libraries of these networks"
)
def test_pairs_are_joined_nothing_else_changes_and_no_more_is_kept(tmp_path):
    command = [str(PYTHON), "-m", "benchmarks", "pairs", *EXPECTED, "--save", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "pairs.json").read_text())
    assert results["failed"] == {}
    rows = results["networks"]
    assert {name: (row["joined"], row["joinable"]) for name, row in rows.items()} == {
        name: (pairs, pairs) for name, (pairs, _) in EXPECTED.items()
    }
    assert [row["left"] for row in rows.values() if row["left"]] == []
    assert [name for name, row in rows.items() if row["bytes_after"] > EXPECTED[name][1] * row["bytes_before"]] == []
    assert [name for name, row in rows.items() if not max(row["difference"].values()) < 1e-9] == []
