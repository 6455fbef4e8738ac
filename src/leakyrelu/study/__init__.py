"""The side-by-side study: one deep network, one data set, one recipe, seven activations.

Every row gets the same orthogonal matrices (times the scale that preserves the signal for its slope), the same split,
the same batches in the same order and the same optimizer. Every row is reported at its own best learning rate, chosen
on validation data; the test data are looked at once, by the chosen runs alone.
"""

import leakyrelu.torch  # noqa: F401 - first, so that the error names the extra where PyTorch is missing
from leakyrelu.study.conclusion import concluding_sentence
from leakyrelu.study.data import SETS, Data, DataError, Part, digits, load, mnist1d
from leakyrelu.study.result import Examination, RowResult, Run, Snapshot, StudyResult
from leakyrelu.study.runner import run_study
from leakyrelu.study.settings import ARCHITECTURES, QUICK, Architecture, Settings, default_settings
from leakyrelu.study.variants import Row, choose_rows
from leakyrelu.study.workers import SchedulerError

__all__ = [
    "ARCHITECTURES",
    "QUICK",
    "SETS",
    "Architecture",
    "Data",
    "DataError",
    "Examination",
    "Part",
    "Row",
    "RowResult",
    "Run",
    "SchedulerError",
    "Settings",
    "Snapshot",
    "StudyResult",
    "choose_rows",
    "concluding_sentence",
    "default_settings",
    "digits",
    "load",
    "mnist1d",
    "run_study",
]
