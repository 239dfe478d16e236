"""How each paper trains: numbers of the recipe and of the plans by the name of the paper.

A configuration of a plans file carries `"protocol": NAME` and `"protocol_edition": NUMBER`
(`nnunet_liver plan --protocol NAME`); its numbers come after those of the trainer and before those
of the plans' own `"recipe"`. Where a protocol's numbers have changed, plans keep those of their
edition; without one they are the first. docs/protocols.md has the numbers beside the papers' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nnunet_liver_ext.errors import InputError


@dataclass(frozen=True)
class Deviation:
    """A number of the paper beside ours."""

    what: str
    paper: str
    ours: str
    reason: str = ""
    """Empty where both are the same."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a paper says of training and of planning."""

    name: str
    paper: str
    trainers: tuple[str, ...]
    """Trainers that it was made for; others may use it, too."""
    architecture: str
    """A key of `nnunet_liver plan --architecture`."""
    architecture_options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the network."""
    spacing: tuple[float | None, ...] | None = None
    """Target spacing (z, y, x) in mm; None in the first place: slices stay as they are; None
    altogether: the planner's."""
    batch_size: int | None = None
    patch_size: tuple[int, ...] | None = None
    """(z, y, x) at most; the planner makes it smaller where memory is short."""
    numbers: Mapping[str, Any]
    """Numbers of the recipe by their names."""
    before: tuple[Mapping[str, Any], ...] = ()
    """What each earlier edition had otherwise, the first edition first."""
    layout: Literal["pairs", "images", "any"]
    """Which datasets it fits: pairs (pre-registered ones, too), or one mask per case."""
    needs_organ_mask: bool = False
    table: tuple[Deviation, ...]

    @property
    def edition(self) -> int:
        """The number of times that its numbers have been set; 1 is the first."""
        return len(self.before) + 1

    def numbers_of(self, edition: int) -> Mapping[str, Any]:
        """The numbers that plans of an edition mean.

        Raises:
            InputError: there is no such edition (yet).
        """
        if edition not in range(1, self.edition + 1):
            raise InputError(
                f"protocol {self.name} has no edition {edition!r}, only 1 to {self.edition}: the"
                " plans are from a later version of nnunet_liver_ext, which must be installed."
            )
        return (
            self.numbers
            if edition == self.edition
            else {**self.numbers, **self.before[edition - 1]}
        )


CHOSEN = "the paper does not say"

COUTEAUX_2021 = Protocol(
    name="couteaux2021",
    paper=(
        "Couteaux et al. 2021, Comparing deep learning strategies (section 3.1), and Cooperating"
        " networks"
    ),
    trainers=("all trainers of pairs",),
    architecture="models-genesis",
    batch_size=1,
    layout="pairs",
    numbers={
        "optimizer": "adam",
        "initial_lr": 1e-4,
        "joint_lr": None,
        "lr_exponent": 0.0,
        "weight_decay": 0.0,
        "num_epochs": 900,
        "num_iterations_per_epoch": 150,
        "deep_supervision": False,
        "oversample_foreground_percent": 0.0,
        "augmentation": "none",
        "mirroring": False,
        "shift_range": 0.2,
        "crop_sizes": 8,
        "best_by": "epoch",
        "keep": "best",
    },
    table=(
        Deviation(
            "network",
            "3D U-Net with Models Genesis weights",
            "ModelsGenesisUNet, weights by import-weights",
        ),
        Deviation("optimizer", "Adam, 1e-4", "Adam, 1e-4, constant"),
        Deviation(
            "batch",
            "1",
            "1 pair",
            "a pair trainer's batch is a pair, which single-input trainers run as two images",
        ),
        Deviation(
            "length",
            "900 epochs of 150 steps (1500 of 100 in the second paper)",
            "900 of 150",
            "one preset",
        ),
        Deviation(
            "crops",
            "cuboids of random sizes and ratios",
            "8 sizes drawn once, none larger than the patch",
            "compiled code and cuDNN want few shapes",
        ),
        Deviation("intensities", "random shift", "U(-0.2, 0.2) after the z-score", CHOSEN),
        Deviation("other augmentation", "none named", "none"),
        Deviation(
            "kept state",
            "best on the validation set",
            "best epoch's mean foreground Dice on validation patches",
            "whole images cost more (below): --set best_by=image_dice score_images_every=10; keep a"
            " test set apart (convert --hold-out)",
        ),
        Deviation("loss", "by trainer", "by trainer"),
    ),
)

YANG_2017 = Protocol(
    name="yang2017",
    paper="Yang et al. 2017, DI2IN with an adversarial network (section 3)",
    trainers=("nnUNetTrainerDI2IN", "nnUNetTrainerDI2INAN"),
    architecture="di2in",
    spacing=(3.0, 3.0, 3.0),
    batch_size=4,
    layout="images",
    numbers={
        "momentum": 0.0,
        "weight_decay": 0.0,
        "oversample_foreground_percent": 0.0,
        "augmentation": "none",
        "mirroring": False,
    },
    table=(
        Deviation("spacing", "3.0 mm isotropic", "3.0 mm isotropic"),
        Deviation(
            "input",
            "the whole volume",
            "the median volume's size as far as memory goes; whole volumes in prediction",
            "nnU-Net trains on patches of one size",
        ),
        Deviation(
            "loss",
            "sum of the binary cross-entropies of three branches and the output, all weights 1",
            "the same",
        ),
        Deviation(
            "optimizer",
            "SGD, 0.01, a tenth of it after 100 iterations",
            "SGD without momentum, 0.01, a tenth after 100 epochs",
            "100 iterations of batch 4 are less than one epoch of 1000 volumes",
        ),
        Deviation(
            "length",
            "200 iterations, then 100 adversarial ones",
            "200 epochs, then 100 adversarial ones",
            "as above",
        ),
        Deviation(
            "adversarial term",
            "λ = 0.01, printed with two signs",
            "-λ log D(G(x)), λ = 0.01",
            "what the text describes",
        ),
        Deviation(
            "steps",
            "k_D = 10 of batch 8, k_G = 1 of batch 4",
            "the same, with a fresh mini-batch each",
        ),
        Deviation(
            "discriminator",
            "in a figure",
            "four strided convolutions; Adam 2e-4, first beta 0.5",
            CHOSEN,
        ),
        Deviation("augmentation", "none named", "none"),
    ),
)

ANTAROS = Protocol(
    name="antaros",
    paper="Liver volume and fat fraction with a 2D U-Net (sections 2 and 3)",
    trainers=("nnUNetTrainerLiver",),
    architecture="slice",
    spacing=(None, 1.5, 1.5),
    batch_size=1,
    patch_size=(4, 256, 256),
    layout="images",
    numbers={
        "optimizer": "adam",
        "initial_lr": 1e-4,
        "momentum": 0.9,
        "lr_exponent": 0.0,
        "weight_decay": 0.0,
        "dice_weight": 0.0,
        "ce_weight": 1.0,
        "deep_supervision": False,
        "oversample_foreground_percent": 0.0,
        "augmentation": "none",
        "mirroring": False,
        "elastic_sd_voxels": 8.0,
        "elastic_points": 8,
    },
    table=(
        Deviation(
            "network",
            "2D U-Net, internal padding, 4 poolings, dropout 0.5 in the two deepest blocks",
            "SliceUNet",
        ),
        Deviation(
            "neighbouring slices (V)",
            "1 for volume, 4 for fat fraction, as an option",
            "0, or --architecture-option neighbours=1",
        ),
        Deviation(
            "residual blocks (R), VGG11 encoder (T)",
            "options",
            "--architecture-option residual=true, encoder=vgg11",
        ),
        Deviation("optimizer", "Adam, 1e-4, betas .9 and .999", "the same, constant"),
        Deviation("loss", "cross-entropy", "cross-entropy"),
        Deviation(
            "batch",
            "1 slice",
            "1 slab of 4 slices",
            "nnU-Net's loader gives slabs; neighbours lie inside",
        ),
        Deviation(
            "spacing",
            "harmonised in-plane, linear; none across slices",
            "1.5 mm in-plane by nnU-Net (cubic), none across slices",
            "the paper gives no number; set --spacing",
        ),
        Deviation(
            "input",
            "256 x 256, padded or cropped",
            "256 x 256 patches; whole slices in prediction",
            "no part of a larger image is lost",
        ),
        Deviation(
            "augmentation (E)",
            "elastic, 64 grid points, sigma 8",
            "8 x 8 points, sigma 8 pixels",
            "64 points are read as 8 x 8",
        ),
        Deviation(
            "intensities",
            "none, or min-max by slice, patient or dataset after clipping",
            "convert --intensities none, slice, patient or dataset",
        ),
        Deviation("sampling", "all slices", "slabs anywhere"),
    ),
)

HANSCH_2022 = Protocol(
    name="hansch2022",
    paper="Hänsch et al. 2022, liver tumours with an anisotropic U-Net (Methods)",
    trainers=("nnUNetTrainerLiverTumor",),
    architecture="anisotropic",
    architecture_options={"padding": "valid"},
    spacing=(None, 1.0, 1.0),
    batch_size=2,
    patch_size=(72, 236, 236),
    layout="images",
    needs_organ_mask=True,
    numbers={
        "optimizer": "adam",
        "initial_lr": 1e-3,
        "lr_exponent": 0.0,
        "weight_decay": 0.0,
        "num_epochs": 160,
        "num_iterations_per_epoch": 500,
        "dice_weight": 1.0,
        "ce_weight": 0.0,
        "deep_supervision": False,
        "augmentation": "none",
        "mirroring": False,
        "flip_probability": 0.5,
        "contrast_low": 0.75,
        "contrast_high": 1.25,
        "shift_sd": 0.25,
        "foreground_share": 0.9,
        "organ_dilation_mm": 10.0,
        "batch_dice": True,
        "best_by": "image_jaccard",
        "score_images_every": 1,
        "keep": "best",
    },
    before=({"batch_dice": None, "best_by": "epoch"},),
    table=(
        Deviation(
            "network",
            "aU-Net, unpadded, 236 x 236 x 72 in, 52 x 52 x 32 out",
            "AnisotropicUNet, the same",
        ),
        Deviation(
            "liver mask",
            "for intensities, sampling, loss and post-processing; no input",
            "the same (loader-only channel)",
        ),
        Deviation("spacing", "1 mm in-plane, none across slices", "the same, by nnU-Net"),
        Deviation(
            "intensities",
            "percentiles 2 and 98 inside the liver to 0 and 1, unclipped",
            "the same (convert --intensities organ)",
        ),
        Deviation(
            "sampling",
            "90 % of patches hold a tumour voxel, 10 % a liver voxel",
            "class first, then case, then a voxel that is the patch's centre",
        ),
        Deviation(
            "augmentation", "flips 0.5; contrast U[0.75, 1.25); shift N(0, 0.25)", "the same"
        ),
        Deviation(
            "loss",
            "Dice inside a dilated liver mask",
            "nnU-Net's soft Dice of the batch inside the mask dilated by 10 mm in-plane",
            "the paper gives no radius; patch by patch, those without a tumour would teach nothing",
        ),
        Deviation("optimizer", "Adam", "Adam 1e-3, constant", CHOSEN + "; 1e-3 is Keras's default"),
        Deviation(
            "length", "80,000 iterations, validated every 500", "160 epochs of 500 iterations"
        ),
        Deviation(
            "kept state",
            "highest Jaccard of the whole validation images, every 500 iterations",
            "the same, after every epoch of 500 (best_by = image_jaccard)",
        ),
        Deviation(
            "post-processing",
            "liver mask, 7 x 7 border, 3 x 3 opening",
            "the same in mm, the nearest odd numbers of voxels, 3 at least (nnunet_liver predict,"
            " or postprocess lesions)",
        ),
        Deviation(
            "models",
            "the best of 16 by multi-model training",
            "one",
            "another seed trains another model: plan --set seed=1 --name seed1",
        ),
    ),
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for protocol in (COUTEAUX_2021, YANG_2017, ANTAROS, HANSCH_2022)
}


def find_protocol(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
        InputError: there is none of that name; the message lists the known ones.
    """
    if name not in PROTOCOLS:
        raise InputError(f"unknown protocol {name!r}; known are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
