"""The slope of a network: chosen from its own graph or measured, and weights initialized for it."""

from leakyrelu.torch.slope.answer import LayerSimilarity, SlopeChoice, WorstPart
from leakyrelu.torch.slope.choosing import choose_slope
from leakyrelu.torch.slope.initialization import Initialization, initialize
from leakyrelu.torch.slope.measurement import SlopeMeasurement, measure_slope

__all__ = [
    "Initialization",
    "LayerSimilarity",
    "SlopeChoice",
    "SlopeMeasurement",
    "WorstPart",
    "choose_slope",
    "initialize",
    "measure_slope",
]
