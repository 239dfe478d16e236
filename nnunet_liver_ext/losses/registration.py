"""The two losses around a registor (Couteaux et al. 2021, "Cooperating networks", section 2.1).

ŝ2' = θ(ŝ1) is the first mask, warped onto the second by the registor. Who learns from which loss is
decided by what is detached: L_g trains the registor only, L_p the segmentor through ŝ2 only. B
batch, C foreground classes, ... spatial axes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from nnunet_liver_ext.deformation import blur


def registration_loss(warped: Tensor, annotation: Tensor) -> Tensor:
    """L_g = MSE(ŝ2' * f, s2 * f), f = [1, 2, 1]/4 along each axis.

    Args:
        warped: ŝ2', (B, C, ...), without a graph into the segmentor.
        annotation: s2 in {0, 1}, (B, C, ...).
    """
    return functional.mse_loss(blur(warped.float()), blur(annotation.float()))


def similarity_loss(warped: Tensor, prediction: Tensor, seen: Tensor | None = None) -> Tensor:
    """L_p = MSE(ŝ2', ŝ2), with a gradient for ŝ2 alone.

    A patch ends where the body goes on. What the registor fetches from beyond the patch is unknown
    rather than background, and would erase ŝ2 along the patch's faces: such voxels count as equal.

    Args:
        warped: ŝ2', (B, C, ...); detached here.
        prediction: ŝ2, (B, C, ...).
        seen: bool, (B, C, ...): whether the voxel of ŝ2' comes from within the patch; None: all do.
    """
    squared = (prediction.float() - warped.float().detach()).square()
    return squared.mean() if seen is None else (squared * seen).mean()
