"""Compute: a slope for each channel of a batch of images, forward and backward, in memory that is used again."""

from __future__ import annotations

import numpy as np

from leakyrelu import leaky_relu, leaky_relu_backward_from_signs, leaky_relu_with_signs


def main() -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((8, 3, 32, 32), dtype=np.float32)
    slopes = np.array([0.01, 0.1, 0.3], np.float32)[:, None, None]

    output = np.empty_like(images)
    leaky_relu(images, slopes, out=output)
    for channel, slope in enumerate(slopes.ravel()):
        print(f"channel {channel}, slope {slope:.2f}: least {output[:, channel].min():.3f}")

    # For the backward pass, one bit an element is enough where there is one slope.
    output, signs = leaky_relu_with_signs(images, 0.01, out=output)
    gradient = leaky_relu_backward_from_signs(np.ones_like(images), signs, 0.01)
    print(f"kept for the backward pass: {signs.nbytes} bytes of {images.nbytes}")
    print(f"mean gradient: {gradient.mean():.3f}")


if __name__ == "__main__":
    main()
