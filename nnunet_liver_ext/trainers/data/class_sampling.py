"""What a patch is centred on is drawn first, then a case that has it (Hänsch et al. 2022).

Their section "Deep neural network" says: "90 % included at least one tumor voxel and the remaining
10 % included at least one liver voxel".

nnU-Net draws a case first and then one of its classes, so that a case without a tumour would take
the place of a tumour patch. Here the loader asks `draw` for a batch of wishes, and a case that is
loaded for a wish offers nnU-Net only the voxels of what is wished for: with
`oversample_foreground_percent = 1` the patch is centred on one of them.

Drawn are: tumour or liver, with the paper's odds; of several lesion classes one, each as likely; a
case that has it, each as likely; a voxel (nnU-Net's loader).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.data.organ_channel import OrganChannel

ORGAN = "organ"
"""What is wished for if not a label of the dataset; also the key of its voxels in nnU-Net's
class_locations."""
MOST_VOXELS = 10_000
"""Organ voxels that are kept of a case, as nnU-Net keeps of a class."""


class Wish(str):
    """A case's name, and what its patch is to be centred on: `ORGAN`, or a label or region."""

    wanted: Hashable

    def __new__(cls, identifier: str, wanted: Hashable) -> Wish:
        wish = super().__new__(cls, identifier)
        wish.wanted = wanted
        return wish

    def __getnewargs__(self) -> tuple[str, Hashable]:  # type: ignore[override]  # batches travel between processes
        return str(self), self.wanted


class ClassFirstSampling:
    """A dataset with a liver mask whose cases are drawn for a lesion or for liver.

    The module's docstring says how.

    Which case has which lesion is taken from nnU-Net's stored properties; of a liver mask up to
    10,000 voxels are chosen when a case is first drawn for its liver. They depend on the case
    alone, not on what was drawn before.

    Args:
        dataset: of one fold.
        foreground_share: probability that a patch is wished for a lesion; the others are for liver.

    Raises:
        InputError: no case has a lesion.
    """

    def __init__(self, dataset: OrganChannel, foreground_share: float = 0.9) -> None:
        self.dataset = dataset
        self.foreground_share = foreground_share
        self.identifiers = dataset.identifiers
        self.cases_with = cases_by_class(dataset)
        self._organ_voxels: dict[str, np.ndarray] = {}
        if foreground_share > 0 and not self.cases_with:
            raise InputError(
                f"none of the {len(self.identifiers)} cases of this fold has a voxel of a"
                " foreground class to centre patches on; put cases with tumours into each fold, or"
                " set foreground_share to 0."
            )

    def draw(self, batch_size: int) -> list[str]:
        """The cases of one batch, each a `Wish`, from numpy's global state.

        Raises:
            InputError: liver is wished for and all liver masks are empty.
        """
        return [self._wish() for _ in range(batch_size)]

    def load_case(self, identifier: str) -> tuple[Any, Any, Any, dict[str, Any]]:
        """The dataset's own; a wish's class_locations are only the voxels that it is for."""
        data, seg, organ, properties = self.dataset.load_case(identifier)
        if isinstance(identifier, Wish):
            wanted = identifier.wanted
            voxels = (
                self._organ(str(identifier), organ)
                if wanted == ORGAN
                else properties["class_locations"][wanted]
            )
            properties = {**properties, "class_locations": {wanted: voxels}}
        return data, seg, organ, properties

    def _wish(self) -> Wish:
        if np.random.uniform() < self.foreground_share:
            classes = list(self.cases_with)
            wanted = classes[np.random.randint(len(classes))]
            cases = self.cases_with[wanted]
            return Wish(cases[np.random.randint(len(cases))], wanted)
        return Wish(self._case_with_organ(), ORGAN)

    def _case_with_organ(self) -> str:
        for index in np.random.permutation(len(self.identifiers)):
            if len(self._organ(self.identifiers[index])) > 0:
                return self.identifiers[index]
        raise InputError(
            f"the liver masks of all {len(self.identifiers)} cases of this fold are empty."
        )

    def _organ(self, identifier: str, organ: Any = None) -> np.ndarray:
        """Positions (N, 4) of the case's chosen liver voxels, as nnU-Net has them: 0 in front."""
        if identifier not in self._organ_voxels:
            organ = self.dataset.load_case(identifier)[2] if organ is None else organ
            self._organ_voxels[identifier] = choose_voxels(organ[:])
        return self._organ_voxels[identifier]


def cases_by_class(dataset: OrganChannel) -> dict[Hashable, list[str]]:
    """The cases that have each label (or region), from nnU-Net's notes; no array is read."""
    cases_with: dict[Hashable, list[str]] = {}
    for identifier in dataset.identifiers:
        for key, voxels in dataset.properties(identifier)["class_locations"].items():
            annotated = (
                isinstance(key, tuple) and -1 in key
            )  # of a dataset with an ignore label: anything, background too
            if len(voxels) > 0 and not annotated:
                cases_with.setdefault(key, []).append(identifier)
    return cases_with


def choose_voxels(mask_ZYX: np.ndarray) -> np.ndarray:
    """Up to 10,000 voxels of a mask, (N, 4) with 0 in front.

    They are always the same ones, and drawn without the global random state.
    """
    inside = np.flatnonzero(mask_ZYX)
    if len(inside) > MOST_VOXELS:
        inside = np.random.default_rng(0).choice(inside, MOST_VOXELS, replace=False)
    positions = np.stack(np.unravel_index(inside, mask_ZYX.shape), axis=1)
    return np.concatenate([np.zeros_like(positions[:, :1]), positions], axis=1).astype(np.int32)
