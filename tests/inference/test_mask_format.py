"""What a mask's file says of its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.inference.mask_format import write_mask
from nnunet_liver_ext.space.images import Grid, array, image_like

CORONAL = (1, 0, 0, 0, 0, 1, 0, -1, 0)


def test_a_vtk_file_has_each_voxel_where_the_mask_has_it(tmp_path: Path, kept_locale):
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    mask = image_like(labels, Grid((6, 5, 4), (1.5, 2.0, 3.0), (-10.0, 20.0, 30.0), CORONAL))
    write_mask(mask, tmp_path / "a.vtk")
    written = sitk.ReadImage(str(tmp_path / "a.vtk"))
    assert written.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    for index in np.ndindex(6, 5, 4):
        point = mask.TransformIndexToPhysicalPoint(index)
        assert written[written.TransformPhysicalPointToIndex(point)] == mask[index]
    assert array(written).shape == (5, 4, 6)


def test_a_tilted_mask_is_no_vtk_file(tmp_path: Path):
    cosine, sine = np.cos(0.01), np.sin(0.01)
    tilted = (cosine, -sine, 0, sine, cosine, 0, 0, 0, 1)
    mask = image_like(np.zeros((2, 2, 2), np.uint8), Grid((2, 2, 2), (1, 1, 1), (0, 0, 0), tilted))
    with pytest.raises(InputError, match="tilted"):
        write_mask(mask, tmp_path / "a.vtk")
    write_mask(mask, tmp_path / "a.nrrd")
    assert [path.name for path in tmp_path.iterdir()] == ["a.nrrd"]
