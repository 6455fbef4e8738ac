"""``python -m leakyrelu`` is the command ``leakyrelu``."""

from leakyrelu.cli import main

if __name__ == "__main__":  # worker processes import this file again
    raise SystemExit(main())
