"""The slope of a network: chosen from its own graph, and weights initialized for it."""

from leakyrelu.torch.slope.answer import LayerSimilarity, SlopeChoice, WorstPart
from leakyrelu.torch.slope.choosing import choose_slope
from leakyrelu.torch.slope.initialization import Initialization, initialize

__all__ = ["Initialization", "LayerSimilarity", "SlopeChoice", "WorstPart", "choose_slope", "initialize"]
