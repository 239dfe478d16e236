"""How each paper trains: numbers of the recipe and of the plans by the name of the paper.

A configuration of a plans file carries `"protocol": NAME` and `"protocol_edition": NUMBER`
(`nnunet_liver plan --protocol NAME`); its numbers come after those of the trainer and before those
of the plans' own `"recipe"`. Where a protocol's numbers have changed, plans keep those of their
edition; without one they are the first. docs/protocols.md has the numbers beside the papers' own.
"""

from __future__ import annotations

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.protocol_entry import Deviation, Protocol

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
            "whole images cost more (see above): --set best_by=image_dice"
            " --set score_images_every=10; keep a test set apart (convert --hold-out)",
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

ANTAROS_FIRST = {
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
}
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
        **ANTAROS_FIRST,
        "elastic_sd_voxels": 0.0,
        "num_epochs": 300,
        "num_iterations_per_epoch": 250,
        "best_by": "image_dice",
        "score_images_every": 5,
        "keep": "best",
    },
    earlier_numbers=(ANTAROS_FIRST,),
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
            "1 slab of 4 slices, 1 slice where the data are single slices",
            "nnU-Net's loader gives slabs; neighbours lie inside",
        ),
        Deviation(
            "length",
            "75,000 iterations (one change at a time), 100,000 (all combinations)",
            "300 epochs of 250",
            "100,000 are --set num_epochs=400",
        ),
        Deviation(
            "kept state",
            "highest Dice of a run on whole patients",
            "highest mean Dice of the whole validation images, every 5 epochs",
            "the paper does not say how often",
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
            "elastic, 64 grid points, sigma 8, as an option",
            "off, or --set elastic_sd_voxels=8 (8 x 8 points, sigma 8 pixels)",
            "64 points are read as 8 x 8",
        ),
        Deviation(
            "intensities",
            "none (its best), or min-max by slice, patient or dataset after clipping",
            "convert --intensities none, slice, patient or dataset",
            "chosen at conversion, whose default is nnU-Net's z-score",
        ),
        Deviation("sampling", "all slices", "slabs anywhere"),
    ),
)

HANSCH_FIRST = {
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
    "best_by": "epoch",
    "keep": "best",
}
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
        **HANSCH_FIRST,
        "batch_dice": True,
        "best_by": "image_jaccard",
        "score_images_every": 1,
    },
    earlier_numbers=(HANSCH_FIRST,),
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
