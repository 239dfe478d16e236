"""Losses of a discriminator of masks, and of the segmentor that plays against it.

(Couteaux et al. 2021, "Comparing deep learning strategies", section 3.3: vanilla GAN and embedding
loss.)

D gives a logit for each region of a mask: positive where it takes the mask for an annotation.
Everything is computed in float32, also under autocast. B batch, ... any further axes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def discriminator_loss(annotation_logits: Tensor, prediction_logits: Tensor) -> Tensor:
    """BCE(D(y), 1) + BCE(D(ŝ), 0): D learns to tell annotations from predictions.

    Args:
        annotation_logits: D(y), (B, ...).
        prediction_logits: D(ŝ), (B, ...).

    Returns:
        Scalar; 2 ln 2 for a D that knows nothing.
    """
    return _bce(annotation_logits, 1.0) + _bce(prediction_logits, 0.0)


def deception_loss(prediction_logits: Tensor) -> Tensor:
    """BCE(D(ŝ), 1): the segmentor wants its masks to be taken for annotations.

    It does not saturate (Goodfellow et al. 2014).
    """
    return _bce(prediction_logits, 1.0)


def embedding_loss(prediction_features: Tensor, annotation_features: Tensor) -> Tensor:
    """Mean of (D_k(ŝ) − D_k(y))² over the features of one layer.

    The paper's formula prints BCE(S(x), x) beside it, a misprint for BCE(S(x), y).
    """
    return functional.mse_loss(prediction_features.float(), annotation_features.float())


def gradient_penalty(logits: Tensor, masks: Tensor) -> Tensor:
    """½ · mean over the batch of |∂ΣD/∂y|², at the annotations (R1 of Mescheder et al. 2018).

    Args:
        logits: D(masks), with a graph.
        masks: (B, C, ...), requiring a gradient.
    """
    (gradient,) = torch.autograd.grad(logits.float().sum(), masks, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean() / 2


def accuracy(logits: Tensor, *, annotations: bool) -> Tensor:
    """Share of D's answers that are right, in [0, 1]."""
    return ((logits > 0) == annotations).float().mean()


def _bce(logits: Tensor, answer: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(
        logits.float(), torch.full_like(logits, answer, dtype=torch.float32)
    )
