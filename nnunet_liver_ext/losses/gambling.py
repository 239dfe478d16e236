"""Gambling loss (Samson et al. 2019; Couteaux et al. 2021, section 3.3).

A gambler spreads a fixed budget over the voxels and wins where the segmentor is wrong. The signs
that Couteaux et al. print would let it win on easy voxels, against their own text: this follows the
intention and the source. In float32 throughout. B batch, K classes, ... spatial axes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def betting_map(logits: Tensor, floor: float = 0.02) -> Tensor:
    """(sigmoid(logit) + floor) divided by its mean over the sample, so that the mean bet is 1.

    (Samson et al. 2019, section 3.2.)

    Args:
        logits: (B, 1, ...).
        floor: positive; keeps the map finite and the gradient alive everywhere.

    Returns:
        (B, ...), each sample's mean is 1.
    """
    bets = logits[:, 0].float().sigmoid() + floor
    return bets / bets.flatten(1).mean(1).view(-1, *[1] * (bets.ndim - 1))


def voxel_errors(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each voxel.

    Args:
        logits: (B, K, ...).
        labels: (B, 1, ...).

    Returns:
        (B, ...), at least 0.
    """
    return functional.cross_entropy(logits.float(), labels[:, 0].long(), reduction="none")


def winnings(bets: Tensor, errors: Tensor) -> Tensor:
    """Mean of bet · error over all voxels: what the gambler maximises and the segmentor minimises.

    It is 0 where the segmentor is right, whatever is bet.
    """
    return (bets * errors).mean()


def share_of_bets(bets: Tensor, wrong: Tensor) -> Tensor:
    """Share of the budget that lies on wrong voxels; nan if no voxel is wrong.

    Args:
        bets: (B, ...).
        wrong: bool, (B, ...).
    """
    share = (bets * wrong).sum() / bets.sum()
    return share.masked_fill(~wrong.any(), float("nan"))
