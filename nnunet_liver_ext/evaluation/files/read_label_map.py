"""A label map as it lies on disk: one file, or one half of a joint label map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import decode_pair
from nnunet_liver_ext.space.images import Grid, array, read_mask


@dataclass(frozen=True)
class LabelMap:
    """One file, or one half of a joint label map."""

    path: Path
    half: int | None = None
    """0 or 1 of a joint label map, None of any other."""
    num_classes: int = 2
    """Number of classes in each half of a joint label map."""
    renumber: tuple[tuple[int, int], ...] = ()
    """(label in the file, label that it stands for); with any, all others are background."""

    def read(self) -> tuple[np.ndarray, Grid]:
        """The labels (z, y, x) and where they are.

        Raises:
            InputError: the file cannot be read or is no label map, or a joint one holds a label
                that is no pair code.
        """
        image = read_mask(self.path)
        labels = array(image)
        if self.half is not None:
            try:
                labels = decode_pair(labels, self.num_classes)[self.half]
            except InputError as error:
                raise InputError(f"{self.path}: is no joint label map: {error}") from None
        if self.renumber:
            in_file = labels
            labels = np.zeros(in_file.shape, np.int32)
            for before, after in self.renumber:
                labels[in_file == before] = after
        return labels, Grid.from_image(image)
