"""The pair code: two label maps in one, and the joint logits that go with it.

nnU-Net trains on one label map per case. A pair (c1, c2) of labels, c1 in image 1 and c2 in image
2, each out of K classes, is stored as the one label c1 + K·c2. A pair network gives u (K logits for
image 1) and v (K for image 2); its joint logits are z[c1 + K·c2] = u[c1] + v[c2]. The softmax of z
is the product of the two marginal softmaxes and argmax z = (argmax u, argmax v); joining is linear,
so whatever averages or interpolates logits commutes with it.

B batch, K classes, ... any number of spatial axes. numpy arrays and torch tensors are both accepted
where it says array.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_liver_ext.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def encode_pair(mask_1: Any, mask_2: Any, num_classes: int = 2) -> Any:
    """The pair code c1 + K·c2 of two label maps.

    Args:
        mask_1: label map of image 1, any shape, bool or integer, values 0..K-1; numpy array or
            torch tensor.
        mask_2: label map of image 2, same shape and kind.
        num_classes: K, background included; at least 2.

    Returns:
        An array of the same kind and shape with values 0..K²-1; for numpy the smallest unsigned
        type that holds them, for torch int64.

    Raises:
        InputError: shapes differ, K is below 2, or a label is outside 0..K-1 or no integer.

    Example:
        >>> import numpy as np
        >>> import nnunet_liver_ext as nle
        >>> nle.encode_pair(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
        array([0, 1, 2, 3], dtype=uint8)
    """
    _check_num_classes(num_classes)
    if tuple(mask_1.shape) != tuple(mask_2.shape):
        raise InputError(
            f"the two masks of a pair differ in shape: {tuple(mask_1.shape)} and"
            f" {tuple(mask_2.shape)}."
        )
    for mask in (mask_1, mask_2):
        _check_range(mask, num_classes)
    if isinstance(mask_1, np.ndarray):
        dtype = np.min_scalar_type(num_classes**2 - 1)
        return mask_1.astype(dtype) + np.asarray(num_classes, dtype) * mask_2.astype(dtype)
    return mask_1.long() + num_classes * mask_2.long()


def decode_pair(code: Any, num_classes: int = 2) -> tuple[Any, Any]:
    """The two label maps behind a pair code, the inverse of `encode_pair`.

    Args:
        code: pair code, any shape, integer values 0..K²-1; numpy array or torch tensor.
        num_classes: K, background included; at least 2.

    Returns:
        (mask_1, mask_2), the shape and kind of `code`.

    Raises:
        InputError: K is below 2, or a code is outside 0..K²-1.

    Example:
        >>> import numpy as np
        >>> import nnunet_liver_ext as nle
        >>> nle.decode_pair(np.array([0, 1, 2, 3]))
        (array([0, 1, 0, 1]), array([0, 0, 1, 1]))
    """
    _check_num_classes(num_classes)
    _check_range(code, num_classes**2)
    return split_codes(code, num_classes)


def split_codes(code: Any, num_classes: int) -> tuple[Any, Any]:
    """`decode_pair` without its checks, which would make a GPU wait in every training step."""
    return code % num_classes, code // num_classes


def join_logits(u: Tensor, v: Tensor) -> Tensor:
    """Joint logits z[c1 + K·c2] = u[c1] + v[c2].

    Args:
        u: logits for image 1, (B, K, ...).
        v: logits for image 2, (B, K, ...).

    Returns:
        (B, K², ...).
    """
    if u.shape != v.shape:
        raise InputError(
            f"logits of the two images differ in shape: {tuple(u.shape)} and {tuple(v.shape)}."
        )
    return (u[:, None] + v[:, :, None]).flatten(1, 2)


def split_logits(joint: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the two marginals: logsumexp over the other image's classes.

    Equal to what was joined up to one constant per voxel, so softmax and argmax are the same.

    Args:
        joint: (B, K², ...).

    Returns:
        (u, v), each (B, K, ...).

    Raises:
        InputError: the number of channels is no square number.
    """
    num_classes = num_marginal_classes(joint.shape[1])
    by_class = (joint.shape[0], num_classes, num_classes, *joint.shape[2:])
    logits_BKK = joint.reshape(by_class)  # axis 1 is c2, axis 2 is c1
    return logits_BKK.logsumexp(1), logits_BKK.logsumexp(2)


def split_probabilities(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two marginal distributions of joint probabilities (K², ...): two arrays (K, ...)."""
    num_classes = num_marginal_classes(joint.shape[0])
    probabilities = joint.reshape(num_classes, num_classes, *joint.shape[1:])  # (c2, c1, ...)
    return probabilities.sum(0), probabilities.sum(1)


def num_marginal_classes(num_joint_classes: int) -> int:
    """K for K² joint classes; InputError if that is no square of a number ≥ 2."""
    num_classes = math.isqrt(num_joint_classes)
    if num_classes**2 != num_joint_classes or num_classes < 2:
        raise InputError(
            f"{num_joint_classes} labels are no pair code, which has K² of them (4, 9, 16, ...):"
            " convert the dataset with nnunet_liver convert, without regions and without an ignore"
            " label."
        )
    return num_classes


@dataclass(frozen=True)
class PairLabels:
    """What the codes of one dataset mean: the `pair` entry of its dataset.json."""

    modalities: tuple[str, str]
    classes: tuple[str, ...]
    """Names of the K classes of each image; the first is the background."""

    def __post_init__(self) -> None:
        _check_num_classes(len(self.classes))
        if len(self.modalities) != 2 or self.modalities[0] == self.modalities[1]:
            raise InputError(
                f"a pair has two modalities with different names, not {list(self.modalities)}."
            )

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def codes(self, modality: int, label: int) -> tuple[int, ...]:
        """All codes in which image `modality` (0 or 1) has class `label`.

        For K = 2: T1 liver (1, 3), T2 liver (2, 3).
        """
        K = self.num_classes
        return tuple(code for code in range(K**2) if (code % K, code // K)[modality] == label)

    def regions(self) -> dict[str, tuple[int, ...]]:
        """Codes of each foreground class of each image, named like "T1 liver"."""
        return {
            f"{modality} {name}": self.codes(index, label)
            for index, modality in enumerate(self.modalities)
            for label, name in enumerate(self.classes)
            if label > 0
        }

    def dataset_labels(self) -> dict[str, int]:
        """The `labels` entry of dataset.json: a name for each code, background first."""
        first, second = self.modalities
        labels = {"background": 0}
        for code in range(1, self.num_classes**2):
            c1, c2 = code % self.num_classes, code // self.num_classes
            parts = [f"{first} {self.classes[c1]}"] * (c1 > 0) + [
                f"{second} {self.classes[c2]}"
            ] * (c2 > 0)
            labels[" and ".join(parts) if len(parts) == 2 else f"{parts[0]} only"] = code
        return labels

    def to_json(self) -> dict[str, list[str]]:
        return {"modalities": list(self.modalities), "classes": list(self.classes)}

    @classmethod
    def from_dataset_json(cls, dataset_json: Mapping[str, Any]) -> PairLabels | None:
        """The pair entry of a dataset.json, or None for an ordinary dataset.

        Raises:
            InputError: there is an entry, but it does not fit the labels.
        """
        entry = dataset_json.get("pair")
        if entry is None:
            return None
        if not isinstance(entry, Mapping) or not {"modalities", "classes"} <= set(entry):
            raise InputError(
                f"dataset.json: `pair` must hold `modalities` and `classes`, found {entry!r}."
            )
        pair = cls(tuple(entry["modalities"]), tuple(entry["classes"]))
        if len(dataset_json["labels"]) != pair.num_classes**2 or "ignore" in dataset_json["labels"]:
            raise InputError(
                f"dataset.json: {pair.num_classes} classes in each image make {pair.num_classes**2}"
                f" pair codes, but the labels are {', '.join(dataset_json['labels'])}; an ignore"
                " label or regions are not possible in pairs."
            )
        return pair


def _check_num_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise InputError(
            f"a pair code needs at least 2 classes (background and one more), not {num_classes}."
        )


def _check_range(labels: Any, stop: int) -> None:
    size = labels.size if isinstance(labels, np.ndarray) else labels.numel()
    if size == 0:
        return
    low, high = float(labels.min()), float(labels.max())
    if not (low >= 0 and high < stop):  # also NaN
        raise InputError(f"labels must lie in 0..{stop - 1}, found {low:g}..{high:g}.")
    if "float" in str(labels.dtype) and bool((labels != labels.round()).any()):
        raise InputError("labels must be integers, found fractions.")
