"""A first convolution for another number of input channels.

# O output channels, C input channels in the file, N input channels here, ... kernel
"""

from __future__ import annotations

from torch import Tensor


def inflate(weight_OC: Tensor, channels: int) -> Tensor:
    """The first convolution's weights (O, C, ...) for N = `channels` input channels, (O, N, ...).

    w'[o, n] = (Σ_c w[o, c]) / N

    An input that is equal in all its channels gives the same response as before, whatever C and N
    are: the sum over the input channels is kept. So RGB weights suit one grey channel (their sum)
    or several slices (the same share each), and weights of one channel suit T1 and T2 together.

    Raises:
        ValueError: there is no channel to begin with, or none is wanted.
    """
    if channels < 1 or weight_OC.ndim < 2 or weight_OC.shape[1] < 1:
        raise ValueError(
            f"weights of shape {tuple(weight_OC.shape)} have no {channels} input channels."
        )
    total_O1 = weight_OC.sum(dim=1, keepdim=True) / channels
    return total_O1.expand(-1, channels, *[-1] * (weight_OC.ndim - 2)).clone()
