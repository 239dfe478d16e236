"""Environment variables: nnU-Net's folders, the plugin folder for our trainers, trust in models.

nnU-Net searches every folder in `nnUNet_extTrainer` for a trainer class by its name. Ours is
`plugin/`, a folder with one file; it must not be `trainers/` itself, because nnU-Net imports what
it finds as top-level modules.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from nnunet_liver_ext.errors import InputError

PLUGIN_FOLDER = Path(__file__).parent / "plugin"
TRAINER_VARIABLE = "nnUNet_extTrainer"
TRUST_VARIABLE = "NNUNET_LIVER_TRUST"
"""1: authors of checkpoints and plans may run what they wrote (option --trust)."""


def trainer_search_path() -> str:
    """The value for `nnUNet_extTrainer`: what is set now, with our plugin folder appended once."""
    folders = [
        folder
        for folder in os.environ.get(TRAINER_VARIABLE, "").split(os.pathsep)
        if folder.strip()
    ]
    if str(PLUGIN_FOLDER) not in folders:
        folders.append(str(PLUGIN_FOLDER))
    return os.pathsep.join(folders)


def enable_trainers() -> None:
    """Lets nnU-Net find our trainers in this process and its children."""
    os.environ[TRAINER_VARIABLE] = trainer_search_path()


def is_trusted() -> bool:
    """Whether the environment says that every checkpoint's author is trusted."""
    return os.environ.get(TRUST_VARIABLE, "").strip().lower() in ("1", "true", "yes")


def nnunet_folder(kind: Literal["raw", "preprocessed", "results"]) -> Path:
    """The folder that `nnUNet_raw`, `nnUNet_preprocessed` or `nnUNet_results` names.

    Raises:
        InputError: the variable is not set.
    """
    variable = f"nnUNet_{kind}"
    value = os.environ.get(variable)
    if not value:
        raise InputError(
            f"{variable} is not set: export {variable}=/a/folder and run the command again."
        )
    return Path(value)


def dataset_folder(dataset: int | str, kind: Literal["raw", "preprocessed", "results"]) -> Path:
    """The folder of one dataset, given by number (501) or name ("Dataset501_Liver").

    Raises:
        InputError: there is no such dataset, or more than one with this number.
    """
    root = nnunet_folder(kind)
    name = str(dataset)
    pattern = name if name.startswith("Dataset") else f"Dataset{_dataset_number(name):03d}_*"
    folders = sorted(path for path in root.glob(pattern) if path.is_dir())
    if not folders:
        raise InputError(
            f"{root} holds no dataset {dataset}: convert it first (nnunet_liver convert --help)."
        )
    if len(folders) > 1:
        names = ", ".join(path.name for path in folders)
        raise InputError(f"{root} holds {len(folders)} datasets {dataset} ({names}): keep one.")
    return folders[0]


def _dataset_number(name: str) -> int:
    try:
        return int(name)
    except ValueError:
        raise InputError(
            f"{name!r} is no dataset: give its number (501) or its name (Dataset501_Liver)."
        ) from None
