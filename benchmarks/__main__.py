"""``python -m benchmarks [BENCHMARK] [ARGUMENT ...]``: measure here, print the tables and store the results.

arrays    the array functions beside every peer (the default, whose parts may be named alone: ``sizes``)
training  Leaky ReLU in training with PyTorch
prelu     learned slopes with PyTorch
census    what diagnose and watch cost beside the network that they count in
peers     planted dead units, found by this package and by others
watch     what diagnose costs on networks that others wrote
units     whether the units of those networks are read along the right axis, beside an oracle; how many are revived
pairs     what save_memory joins in those networks, beside an oracle, and what it changes
slope     similarity of unrelated inputs at every activation of networks at initialization, measured and predicted
choices   what choose_slope answers for networks that others wrote, and what it cannot read
compare   two installed versions of leakyrelu, in turn
figures   write the figures of README, docs and result tables from the committed results
study     shorten the results of a study for docs/study.json

``python -m benchmarks BENCHMARK --help`` lists the arguments. Results go to ``benchmarks/results/<machine>/``, one JSON
file and one table for each benchmark.
"""

from __future__ import annotations

import importlib
import sys

BENCHMARKS = {
    "arrays": "benchmarks.arrays.main",
    "training": "benchmarks.training.main",
    "prelu": "benchmarks.training.prelu",
    "census": "benchmarks.census",
    "peers": "benchmarks.peers.main",
    "watch": "benchmarks.units.cost",
    "units": "benchmarks.units.main",
    "pairs": "benchmarks.pairs.main",
    "slope": "benchmarks.slope.main",
    "choices": "benchmarks.slope.choices",
    "compare": "benchmarks.compare",
    "figures": "benchmarks.figures",
    "study": "benchmarks.study",
}


def main(arguments: list[str]) -> None:
    """Run the benchmark that the first argument names."""
    if arguments in (["-h"], ["--help"]):
        print(__doc__)
        return
    name, rest = (
        (arguments[0], arguments[1:]) if arguments[:1] and arguments[0] in BENCHMARKS else ("arrays", arguments)
    )
    importlib.import_module(BENCHMARKS[name]).main(rest)


if __name__ == "__main__":
    main(sys.argv[1:])
