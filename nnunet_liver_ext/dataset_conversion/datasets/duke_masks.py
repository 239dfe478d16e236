"""Masks of the Duke Liver Dataset: a DICOM file for each image slice, in a folder beside them.

Mask slices are given to image slices by their place in space if their headers have one. Else by
file name, or, if names differ, by rank in natural order (2 before 10); masks that look flipped are
then refused. Everything above 0 is liver.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.flipped_masks import MR, check_not_flipped
from nnunet_liver_ext.dataset_conversion.folder_search import natural_order
from nnunet_liver_ext.dataset_conversion.image_reader import put_on_image_grid
from nnunet_liver_ext.dataset_conversion.slicewise_masks import rank_names, read_dicom_slice
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.dicom import grid_of_slices, read_series, read_slice_headers
from nnunet_liver_ext.space.dicom_headers import SliceHeader, is_dicom
from nnunet_liver_ext.space.images import Grid, array, image_like

PLACE = ("0020|0032", "0020|0037", "0028|0030")
"""ImagePositionPatient, ImageOrientationPatient, PixelSpacing."""


class DukeReader:
    """Reads the slices of a series, and the mask slices that belong to them."""

    def read_image(self, path: Path) -> sitk.Image:
        return read_series(
            path, same_uid=False
        )  # a folder is a series; identifiers were made anew for the release

    def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        files = sorted(
            (file for file in path.iterdir() if is_dicom(file)),
            key=lambda file: natural_order(file.name),
        )
        slices = read_slice_headers(image_path, same_uid=False)
        if len(files) != len(slices):
            raise InputError(
                f"{path}: holds {len(files)} mask slices, {image_path} {len(slices)} slices."
            )
        if have_positions(files):
            return _read_by_position(path, image, image_path)
        matched = zip(_order_by_name(files, slices), slices, strict=True)
        liver = np.stack([read_dicom_slice(file, header.size) > 0 for file, header in matched])
        check_not_flipped(array(image), liver, path, MR)
        return image_like(liver, grid_of_slices(slices))


def have_positions(files: list[Path]) -> bool:
    """Whether the headers say where the slices are, each at a place of its own."""
    positions = set()
    for file in files:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            raise InputError(
                f"{file}: cannot be read as DICOM, it is damaged or incomplete."
            ) from None
        if not all(reader.HasMetaDataKey(tag) and reader.GetMetaData(tag).strip() for tag in PLACE):
            return False
        positions.add(reader.GetMetaData(PLACE[0]).strip())
    return len(positions) == len(files)


def _read_by_position(path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
    mask = put_on_image_grid(read_series(path, same_uid=False), path, image, image_path)
    return image_like(array(mask) > 0, Grid.from_image(image))


def _order_by_name(files: list[Path], slices: list[SliceHeader]) -> list[Path]:
    """The mask file of each image slice, by equal names, else by rank among the sorted names."""
    by_stem = {file.stem: file for file in files}
    if by_stem.keys() == {header.path.stem for header in slices}:
        return [by_stem[header.path.stem] for header in slices]
    rank_of_name = rank_names(header.path.name for header in slices)
    return [files[rank_of_name[header.path.name]] for header in slices]
