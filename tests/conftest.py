"""A tiny preprocessed dataset of pairs that all trainer tests share, made once by nnU-Net's own
tools."""

from __future__ import annotations

import json
import locale
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tests.held_folders import hold as hold

os.environ.setdefault("nnUNet_def_n_proc", "2")
os.environ.setdefault("nnUNet_n_proc_DA", "1")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("MATPLOTLIBRC", str(Path(__file__).with_name("matplotlibrc")))

DATASET = "Dataset501_Blobs"
PREREGISTERED = "Dataset502_Preregistered"
TUMOURS = "Dataset503_Tumours"
CASES = [f"P{patient:03d}_S1" for patient in range(1, 6)]


def blob_pair(
    seed: int, shape: tuple[int, int, int] = (20, 40, 40)
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Two noisy images, each with a bright ball of its own place and size, and the balls."""
    rng = np.random.default_rng(seed)
    zyx = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    images, masks = [], []
    for modality in range(2):
        centre = np.array(shape) / 2 + rng.uniform(-3, 3, 3) + 2 * modality
        distance = np.sqrt(
            (
                ((zyx - centre[:, None, None, None]) / np.array([1, 1.6, 1.6])[:, None, None, None])
                ** 2
            ).sum(0)
        )
        mask = distance < rng.uniform(5, 7)
        masks.append(mask)
        images.append((mask * (2.0 - modality) + rng.normal(0, 0.3, shape)).astype(np.float32) + 3)
    return images, masks


def write_raw_dataset(folder: Path, *, preregistered: bool = False) -> None:
    from nnunet_liver_ext.pairing import PairLabels, encode_pair
    from nnunet_liver_ext.space.images import Grid, image_like, write_image

    pair = PairLabels(("T1", "T2"), ("background", "liver"))
    grid = Grid((40, 40, 20), (1.5, 1.5, 3.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    for seed, case in enumerate(CASES):
        images, masks = blob_pair(seed)
        for channel, image in enumerate(images):
            write_image(
                image_like(image, grid), folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz"
            )
        label = masks[0].astype(np.uint8) if preregistered else encode_pair(*masks)
        write_image(image_like(label, grid), folder / "labelsTr" / f"{case}.nii.gz")
    labels = {"background": 0, "liver": 1} if preregistered else pair.dataset_labels()
    names = {"0": "T2", "1": "T1 warped"} if preregistered else {"0": "T1", "1": "T2"}
    content = {
        "channel_names": names,
        "labels": labels,
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
    }
    if not preregistered:
        content["pair"] = pair.to_json()
    (folder / "dataset.json").write_text(json.dumps(content))
    (folder / "splits_final.json").write_text(json.dumps([{"train": CASES[:3], "val": CASES[3:]}]))


def write_tumour_dataset(folder: Path) -> None:
    """A liver with a tumour in each case but the last: the image, the liver mask as a channel, the
    tumour as the label."""
    from nnunet_liver_ext.space.images import Grid, image_like, write_image

    grid = Grid((40, 40, 20), (1.5, 1.5, 3.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    for seed, case in enumerate(CASES):
        (image, _), (liver, _) = blob_pair(seed)
        z, y, x = np.round(np.argwhere(liver).mean(0)).astype(int)
        tumour = np.zeros(liver.shape, bool)
        if case != CASES[-1]:
            tumour[z - 1 : z + 2, y - 3 : y + 3, x : x + 4] = True
        image[tumour] -= 1
        write_image(image_like(image, grid), folder / "imagesTr" / f"{case}_0000.nii.gz")
        write_image(image_like(liver, grid), folder / "imagesTr" / f"{case}_0001.nii.gz")
        write_image(image_like(tumour, grid), folder / "labelsTr" / f"{case}.nii.gz")
    content = {
        "channel_names": {"0": "MR", "1": "noNorm"},
        "labels": {"background": 0, "tumour": 1},
        "organ_mask": {"name": "liver", "channel": 1},
        "conversion": {
            "layout": "images",
            "modalities": ["MR"],
            "spacing": "native",
            "interpolation": "bspline",
        },
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    (folder / "splits_final.json").write_text(json.dumps([{"train": CASES[:3], "val": CASES[3:]}]))


@pytest.fixture(scope="session")
def nnunet_root(tmp_path_factory: pytest.TempPathFactory):
    """nnU-Net's three folders with the tiny datasets 501 (pairs), 502 (pre-registered) and 503
    (tumours), preprocessed.

    Of several test processes one makes them, and each has a copy.
    """
    from nnunet_liver_ext.environment import enable_trainers

    root = tmp_path_factory.mktemp("nnunet")
    shared = root.parents[1] if "PYTEST_XDIST_WORKER" in os.environ else root.parent
    patch = pytest.MonkeyPatch()
    patch.setenv("nnUNet_extTrainer", "")
    enable_trainers()
    with FileLock(shared / "template.lock"):
        template = shared / "template"
        if not (template / "complete").exists():
            make_datasets(template)
            (template / "complete").touch()
    shutil.copytree(template, root, dirs_exist_ok=True)
    (root / "complete").unlink()
    point_to(root, patch)
    yield root
    patch.undo()


def point_to(root: Path, patch: pytest.MonkeyPatch) -> None:
    for kind in ("raw", "preprocessed", "results"):
        (root / kind).mkdir(parents=True, exist_ok=True)
        patch.setenv(f"nnUNet_{kind}", str(root / kind))


def make_datasets(root: Path) -> None:
    """The three datasets, planned and preprocessed by nnU-Net's own tools.

    nnU-Net's processes are forked here: each new one would spend ten seconds on imports.
    """
    with pytest.MonkeyPatch.context() as patch:
        point_to(root, patch)
        forked = multiprocessing.get_context("fork")
        patch.setattr(multiprocessing, "get_context", lambda method=None: forked)
        write_raw_dataset(root / "raw" / DATASET)
        write_raw_dataset(root / "raw" / PREREGISTERED, preregistered=True)
        write_tumour_dataset(root / "raw" / TUMOURS)
        from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

        from nnunet_liver_ext.planning.plan_dataset import plan_dataset

        for dataset in (501, 502, 503):
            plan_dataset(dataset, tiny=True, numbers={"patch_size": [16, 32, 32]}, processes=2)
            preprocess_dataset(
                dataset, configurations=("3d_fullres",), num_processes=(2,), show_progress_bar=False
            )


@pytest.fixture
def kept_locale():
    """ITK's reader of VTK files leaves the process in the C locale, where files are ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


LONGEST = (
    "end_to_end/test_demo.py",
    "contracts/test_all_trainers.py",
    "end_to_end/test_stock_commands.py",
)
"""Files that take minutes: begun first, so that no process works on one alone at the end.

`make test` keeps this order (--no-loadscope-reorder).
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        found = [index for index, name in enumerate(LONGEST) if item.path.as_posix().endswith(name)]
        return found[0] if found else len(LONGEST)

    items.sort(key=place)
