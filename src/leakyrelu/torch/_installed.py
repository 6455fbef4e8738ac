"""PyTorch, looked for before anything of this package imports it: the error names the extra that installs it."""

from leakyrelu._extras import require

require("torch", by="leakyrelu.torch")
