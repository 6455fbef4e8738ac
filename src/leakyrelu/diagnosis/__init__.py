"""What the units of a network do: counts per unit, the report read from them, and its renderers."""

from leakyrelu.diagnosis.counts import Counts
from leakyrelu.diagnosis.finding import Finding
from leakyrelu.diagnosis.history import History
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.report import Report

__all__ = ["Counts", "Finding", "History", "Layer", "Report"]
