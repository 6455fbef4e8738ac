"""The mathematics of the slope of Leaky ReLU, for an input x ~ N(0, 1)."""

from leakyrelu.slope.formulas import centered, correlation, gain, mean, tailored, variance

__all__ = ["centered", "correlation", "gain", "mean", "tailored", "variance"]
