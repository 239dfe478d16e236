"""Files that dcm2niix writes twice: as they were scanned, and corrected.

NIfTI knows boxes of voxels alone. Of slices at uneven distances, or of a tilted gantry, dcm2niix
writes NAME.nii.gz, whose geometry is wrong, and NAME_Eq_1.nii.gz or NAME_Tilt_1.nii.gz, whose
geometry is right; of 16-bit unsigned values the first alone.
"""

from __future__ import annotations

from pathlib import Path

from nnunet_liver_ext.errors import InputError

EVENED = "_Eq_1"
STRAIGHTENED = "_Tilt_1"
FAULTS = {
    EVENED: "its slices lie at uneven distances",
    STRAIGHTENED: "its gantry was tilted",
    "_Tilt_Eq_1": "its gantry was tilted and its slices lie at uneven distances",
}
"""What is wrong with a file beside which there is one of this name."""
NIFTI_ENDINGS = (".nii.gz", ".nii")


def refuse_uncorrected(path: Path) -> None:
    """InputError if dcm2niix's corrected file lies beside a NIfTI file; names it."""
    ending = next((end for end in NIFTI_ENDINGS if path.name.lower().endswith(end)), None)
    if ending is None:
        return
    stem = path.name[: -len(ending)]
    for mark, fault in FAULTS.items():
        for other in NIFTI_ENDINGS:
            corrected = path.with_name(f"{stem}{mark}{other}")
            if corrected.exists():
                raise InputError(
                    f"{path}: is what dcm2niix wrote before its correction ({fault}); take"
                    f" {corrected.name}, which lies beside it."
                )
