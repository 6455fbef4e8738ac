"""Values as JSON can hold them."""

from __future__ import annotations

import math
from typing import Any


def to_plain(value: Any) -> Any:
    """Return Python containers and scalars; NaN and infinity, which JSON cannot hold, become None.

    Examples
    --------
    >>> import numpy as np
    >>> to_plain({"share": np.array([0.5, np.nan]), 1: (np.int64(2),)})
    {'share': [0.5, None], '1': [2]}
    """
    if isinstance(value, dict):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):  # a NumPy array or scalar
        return to_plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
