"""Joint label maps of nnUNetv2_predict, turned into masks on the native grids of the images."""

from __future__ import annotations

from pathlib import Path

from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.folder_lock import locks_folder
from nnunet_liver_ext.inference.mask_format import check_format, write_mask
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.pairing import PairLabels, decode_pair
from nnunet_liver_ext.space.images import Grid, array, image_like, read_mask, stem
from nnunet_liver_ext.space.mask_resampling import mask_on_grid


@locks_folder("out")
def split_folder(
    joint: Path,
    manifest_folder: Path,
    out: Path,
    *,
    overwrite: bool = False,
    file_format: str = "nii.gz",
) -> None:
    """Splits every joint label map in a folder, and puts each mask onto its image's own grid.

    Masks are resampled by the shape of their classes.

    Args:
        joint: output folder of nnUNetv2_predict on converted images (NAME.nii.gz and dataset.json).
        manifest_folder: the converted dataset's folder; its pairs.json knows the native grids.
        out: gets NAME_T1.nii.gz and NAME_T2.nii.gz.
        overwrite: write masks again that are there.
        file_format: of the masks, one of `mask_format.FORMATS`.

    Raises:
        InputError: there is no such format, or the folder holds no joint label maps.
        SomeCasesFailed: at the end, listing maps that are damaged or unknown to pairs.json.
    """
    check_format(file_format)
    pair = _read_pair(joint)
    manifest = Manifest.load(manifest_folder)
    maps = sorted(joint.glob("*.nii.gz"))
    if not maps:
        raise InputError(f"{joint}: holds no label maps (*.nii.gz).")
    failures = []
    for path in maps:
        try:
            _split_map(path, pair, manifest, out, overwrite, file_format)
        except InputError as error:
            failures.append(CaseFailure(stem(path), str(error)))
    if failures:
        raise SomeCasesFailed(failures, len(maps))


def _split_map(
    path: Path,
    pair: PairLabels,
    manifest: Manifest,
    out: Path,
    overwrite: bool,
    file_format: str,
) -> None:
    case = manifest.cases.get(stem(path))
    if case is None:
        raise InputError(
            f"{path.name}: pairs.json knows no case {stem(path)}, so its native grids are unknown."
        )
    joint = read_mask(path)
    for modality, mask in zip(
        pair.modalities, decode_pair(array(joint), pair.num_classes), strict=True
    ):
        target = out / f"{case.name}_{modality}.{file_format}"
        native = case.native_grids.get(modality)  # None: the study has no such image
        if native is not None and (overwrite or not target.exists()):
            write_mask(
                mask_on_grid(image_like(mask, Grid.from_image(joint)), native, pair.num_classes),
                target,
            )


def _read_pair(joint: Path) -> PairLabels:
    missing = f"{joint}: has no dataset.json; give the output folder of nnUNetv2_predict."
    pair = PairLabels.from_dataset_json(read_json(joint / "dataset.json", missing=missing))
    if pair is None:
        raise InputError(f"{joint}: dataset.json knows no pairs, so there is nothing to split.")
    return pair
