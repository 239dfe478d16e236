"""Each architecture and protocol from images to scores, as a user types it, on plans that train
within a minute or two.

Slow: `make test` leaves them out; `pytest -m slow tests/end_to_end/test_architectures.py` runs
them.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from nnunet_liver_ext.dataset_conversion.phantom import write_studies
from nnunet_liver_ext.dataset_conversion.phantom.write_image_studies import write_image_studies
from nnunet_liver_ext.space.images import Grid, array, image_like, read_mask, write_image
from tests.end_to_end.shell import Shell

pytestmark = pytest.mark.slow

PAIRS, CT, LESIONS, REAL = "501", "502", "503", "504"


@dataclass(frozen=True)
class Chain:
    """What is planned and trained, and what it reaches at least on held-out cases."""

    dataset: str
    plan: tuple[str, ...]
    plans_name: str
    trainer: str
    dice: float
    numbers: tuple[str, ...] = ()


CHAINS = {
    "nnunet": Chain(
        PAIRS, ("--architecture", "nnunet"), "nnUNetPlans", "nnUNetTrainerSingleInput", 0.6
    ),
    "resenc": Chain(
        PAIRS, ("--architecture", "resenc"), "nnUNetPlansResEnc", "nnUNetTrainerDualInput", 0.6
    ),
    "anisotropic": Chain(
        PAIRS,
        ("--architecture", "anisotropic"),
        "nnUNetPlansAnisotropic",
        "nnUNetTrainerDiceBCE",
        0.6,
    ),
    "couteaux2021": Chain(
        PAIRS,
        ("--protocol", "couteaux2021"),
        "nnUNetPlansModelsGenesis",
        "nnUNetTrainerSingleInput",
        0.3,
        ("num_epochs=25",),  # batches of one, and every tile has statistics of its own
    ),
    "yang2017": Chain(
        CT, ("--protocol", "yang2017"), "nnUNetPlansDI2IN", "nnUNetTrainerDI2IN", 0.6
    ),
    "yang2017, adversarial": Chain(
        CT,
        ("--protocol", "yang2017", "-p", "Adversarial"),
        "Adversarial",
        "nnUNetTrainerDI2INAN",
        0.6,
        ("warmup_epochs=8", "companion_batch_size=4", "companion_steps=2"),
    ),
    "antaros": Chain(CT, ("--protocol", "antaros"), "nnUNetPlansSlice", "nnUNetTrainerLiver", 0.5),
    "hansch2022": Chain(
        LESIONS,
        ("--protocol", "hansch2022"),
        "nnUNetPlansAnisotropic",
        "nnUNetTrainerLiverTumor",
        0.1,
    ),
}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Phantoms: pairs, CT with the liver, MR with lesions and a liver mask beside them."""
    shell = Shell(tmp_path_factory.mktemp("architectures"))
    shell.environment["nnUNet_extTrainer"] = (
        shell.run("nnunet_liver", "env").strip().partition("=")[2]
    )
    common = ("--folds", "2", "--processes", "2", "--difficulty", "demo")
    for dataset, options in (
        (PAIRS, ("--pairs", "8", "--spacing", "3,3,6")),
        (CT, ("--layout", "images", "--modality", "CT", "--pairs", "8")),
        (
            LESIONS,
            (
                "--layout",
                "images",
                "--modality",
                "MR",
                "--lesions",
                "--intensities",
                "organ",
                "--pairs",
                "10",
            ),
        ),
    ):
        studies = shell.root / f"studies_{dataset}"
        shell.run(
            "nnunet_liver",
            "convert",
            "phantom",
            "-d",
            dataset,
            "--studies",
            studies,
            *common,
            *options,
        )
    new = {"images": 2, "seed": 77, "difficulty": "demo"}
    write_studies(shell.root / f"new_{PAIRS}", pairs=2, seed=77, difficulty="demo")
    write_image_studies(shell.root / f"new_{CT}", modality="CT", **new)
    write_image_studies(shell.root / f"new_{LESIONS}", modality="MR", lesions=True, **new)
    return shell


@pytest.mark.parametrize("name", CHAINS)
def test_from_images_to_scores(shell: Shell, name: str):
    chain = CHAINS[name]
    model = train(shell, chain)
    out = shell.root / f"masks_{name.replace(', ', '_')}"
    studies = shell.root / f"new_{chain.dataset}" / "studies.csv"
    labels: tuple[str, ...] = ()
    if chain.dataset == LESIONS:
        studies, labels = with_liver_masks(studies), ("--label", "tumour=2")
    shell.run("nnunet_liver", "predict", "-m", model, "-i", studies, "-o", out, "--device", "cpu")
    scores = evaluate(shell, out, studies, *labels)
    print(
        f"\n{name}: Dice {scores.mean():.3f} of {len(scores)} masks"
        f" ({', '.join(f'{score:.2f}' for score in scores)})"
    )
    assert scores.mean() > chain.dice


@pytest.mark.parametrize(
    ("file", "modality", "plan", "trainer"),
    [
        ("ct_3mm", "CT", ("--architecture", "di2in", "--spacing", "3,3,3"), "nnUNetTrainerDI2IN"),
        ("mr_3mm", "MR", ("--protocol", "antaros"), "nnUNetTrainerLiver"),
    ],
)
def test_real_images_go_through(
    shell: Shell, file: str, modality: str, plan: tuple[str, ...], trainer: str
):
    """Trained and tested on one and the same image: that the chain works, nothing else."""
    folder = Path(os.environ.get("NNUNET_LIVER_REAL_DATA", "nowhere"))
    if not folder.is_dir():
        pytest.skip("no real images")
    dataset = {"CT": "511", "MR": "512"}[modality]
    table = shell.root / f"{file}.csv"
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient", "study", modality.lower(), "mask"])
        for copy in range(4):
            link = shell.root / f"{file}_{copy}"
            link.mkdir(exist_ok=True)
            for kind in ("", "_labels"):
                target = link / f"{file}{kind}.nii.gz"
                if not target.exists():
                    target.symlink_to(folder / f"{file}{kind}.nii.gz")
            writer.writerow(
                [f"p{copy}", "1", f"{link.name}/{file}.nii.gz", f"{link.name}/{file}_labels.nii.gz"]
            )
    shell.run(
        *(
            "nnunet_liver",
            "convert",
            "images",
            table,
            "-d",
            dataset,
            "--modality",
            modality,
            "--folds",
            "2",
        ),
        *("--label", "liver=5", "--ignore-other-labels", "--processes", "2", "--name", "Real"),
    )
    model = train(shell, Chain(dataset, (*plan, "-p", "Real"), "Real", trainer, 0.0))
    out = shell.root / f"masks_{file}"
    shell.run("nnunet_liver", "predict", "-m", model, "-i", table, "-o", out, "--device", "cpu")
    scores = evaluate(shell, out, table, "--label", "liver=5")
    print(f"\n{file}: Dice {scores.mean():.3f} on the image that was trained on")
    assert scores.mean() > 0.6


def train(shell: Shell, chain: Chain) -> Path:
    """Plans, preprocesses and trains fold 0; the model's folder."""
    numbers = [word for number in chain.numbers for word in ("--set", number)]
    shell.run(
        "nnunet_liver",
        "plan",
        "-d",
        chain.dataset,
        *chain.plan,
        "--tiny",
        "--processes",
        "2",
        *numbers,
    )
    shell.run(
        "nnUNetv2_preprocess",
        "-d",
        chain.dataset,
        "-plans_name",
        chain.plans_name,
        "-c",
        "3d_fullres",
        "-np",
        "2",
    )
    shell.run(
        *(
            "nnUNetv2_train",
            chain.dataset,
            "3d_fullres",
            "0",
            "-tr",
            chain.trainer,
            "-p",
            chain.plans_name,
        ),
        *("-device", "cpu"),
    )
    results = next((shell.root / "results").glob(f"Dataset{chain.dataset}_*"))
    return results / f"{chain.trainer}__{chain.plans_name}__3d_fullres"


def with_liver_masks(table: Path) -> Path:
    """The studies with a liver mask each (the liver with its lesions), which a tumour model
    needs."""
    studies = pd.read_csv(table)
    studies["liver_mask"] = [
        f"{Path(mask).name.split('.')[0]}_of_liver.nii.gz" for mask in studies["mask"]
    ]
    for mask, liver in zip(studies["mask"], studies["liver_mask"], strict=True):
        labels = read_mask(table.parent / mask)
        write_image(image_like(array(labels) > 0, Grid.from_image(labels)), table.parent / liver)
    studies.to_csv(table.with_name("with_livers.csv"), index=False)
    return table.with_name("with_livers.csv")


def evaluate(shell: Shell, masks: Path, studies: Path, *options: str) -> pd.Series:
    """Dice of each mask."""
    scores = Path(f"{masks}_scores")
    shell.run("nnunet_liver", "evaluate", "-p", masks, "-r", studies, "-o", scores, *options)
    table = pd.read_csv(scores / "results.csv")
    return table[table.metric == "dice"].value
