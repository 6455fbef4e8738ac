"""Networks that others wrote, with random weights and small inputs: what the package is to hold for."""
