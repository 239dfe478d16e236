"""The recipe of a trainer: strategy, objective and numbers.

A named trainer is `LiverTrainer` plus one frozen `Recipe`. Plans and protocols may give other
numbers (`overrides`). As JSON a recipe is flat: its own numbers, the weight of each voxel term as
NAME_weight, and the numbers that its objective declares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.losses.voxel_terms import VOXEL_TERMS
from nnunet_liver_ext.trainers.objectives import OBJECTIVES
from nnunet_liver_ext.trainers.objectives.interface import ObjectiveNumbers
from nnunet_liver_ext.trainers.ranges import Range, check_fields, check_type

PLANS_KEY = "nnunet_liver_ext"
"""Key of the resolved recipe and the package's version, in a model's plans and checkpoints."""

NOT_A_NUMBER = ("strategy", "objective", "architecture")
"""What a trainer's name says, so that no plans may change it."""
NUMBERS_OF_NNUNET = (
    "num_epochs",
    "num_iterations_per_epoch",
    "num_val_iterations_per_epoch",
    "save_every",
    "initial_lr",
    "weight_decay",
    "oversample_foreground_percent",
    "probabilistic_oversampling",
)
"""Numbers that nnU-Net's trainer has by the same names."""
BY_NAME = ("voxel_terms", "objective_options")
"""Fields whose entries are flat numbers of a recipe."""
WEIGHT = "_weight"
"""Ending of the number that weighs a voxel term."""
WEIGHTS = Range(0, 1e9)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one trainer trains; the defaults are those of nnU-Net 2.8 (`nnUNetTrainer.__init__`)."""

    strategy: str
    """Key of `networks.strategies.STRATEGIES`: how the images enter and leave the segmentor."""
    objective: str = "dice_ce"
    """Key of `trainers.objectives.OBJECTIVES`: what the segmentor is trained on."""
    objective_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Numbers of the objective that are not its defaults; `objective_numbers` has all of them."""
    voxel_terms: Mapping[str, float] = field(
        default_factory=lambda: {"dice": 1.0, "ce": 1.0}, hash=False
    )
    """Weight of each term of the voxel loss, by its name in `losses.voxel_terms.VOXEL_TERMS`."""
    architecture: str | None = None
    """Class name of the only network that the trainer takes; None: whatever the plans say."""

    num_epochs: Annotated[int, Range(1, 1e9)] = 1000
    num_iterations_per_epoch: Annotated[int, Range(1, 1e9)] = 250
    num_val_iterations_per_epoch: Annotated[int, Range(1, 1e9)] = 50
    save_every: Annotated[int, Range(1, 1e9)] = 50
    """A `checkpoint_latest.pth` every so many epochs."""
    best_by: Literal["moving_average", "epoch", "image_jaccard", "image_dice"] = "moving_average"
    """What `checkpoint_best.pth` is the best of: nnU-Net's moving average of the mean foreground
    Dice of validation patches, that of single epochs, or the mean Jaccard or Dice of the whole
    validation images. Patches that are centred on the foreground cannot show what is found
    elsewhere."""
    score_images_every: Annotated[int, Range(1, 1e9)] = 1
    """With the last two, the whole validation images are predicted every so many epochs."""
    keep: Literal["final", "best"] = "final"
    """Which state becomes `checkpoint_final.pth`. The best one was chosen on the validation fold,
    whose scores are then optimistic: keep a test set apart."""

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    initial_lr: Annotated[float, Range(0, 1e3)] = 1e-2
    lr_exponent: Annotated[float, Range(0, 10)] = 0.9
    """Learning rate = initial_lr · (1 − progress of the phase)^lr_exponent; 0 keeps it constant."""
    lr_drop_epoch: Annotated[int | None, Range(1, 1e9)] = None
    """A tenth of the learning rate from this epoch of a phase on in which the segmentor learns
    alone; None: no drop."""
    momentum: Annotated[float | None, Range(0, 0.9999)] = None
    """Nesterov momentum of SGD (None: nnU-Net's 0.99), first beta of the Adams (None: 0.9)."""
    weight_decay: Annotated[float, Range(0, 1e3)] = 3e-5
    gradient_clip: Annotated[float, Range(1e-6, 1e9)] = 12.0
    """Largest norm of the gradient of a player."""

    deep_supervision: bool = True
    batch_dice: bool | None = None
    """Dice of all voxels of a batch rather than the mean over its patches; None: as the plans say.
    By itself, a patch without foreground teaches Dice nothing, whatever is predicted in it."""

    oversample_foreground_percent: Annotated[float, Range(0, 1)] = 0.33
    """Share of patches that are centred on a foreground voxel; in pairs its marginal class is drawn
    first."""
    probabilistic_oversampling: bool = False
    """Draw that share patch by patch; with batch size 1 nnU-Net's own rounding would never
    oversample."""
    augmentation: Literal["nnunet", "none"] = "nnunet"
    """nnU-Net's training transforms, or none of them."""
    mirroring: bool = True
    """Random mirroring in training, and mirrored test-time augmentation, along all axes."""
    flip_probability: Annotated[float, Range(0, 1)] = 0.0
    """Flips along each axis for itself (Hänsch et al. 2022). This and the following come before
    those of `augmentation`."""
    contrast_low: Annotated[float, Range(0, 10)] = 1.0
    """The distance from the image's mean is multiplied by a number in [contrast_low,
    contrast_high)."""
    contrast_high: Annotated[float, Range(0, 10)] = 1.0
    shift_sd: Annotated[float, Range(0, 1e6)] = 0.0
    """A number out of N(0, shift_sd²) is added to the image."""
    shift_range: Annotated[float, Range(0, 1e6)] = 0.0
    """A number in [−shift_range, shift_range) is added to the image (Couteaux et al. 2021)."""
    elastic_sd_voxels: Annotated[float, Range(0, 1e3)] = 0.0
    """In-plane elastic deformation by control points with displacements of this standard deviation;
    all slices alike."""
    elastic_points: Annotated[int, Range(4, 64)] = 8
    """Control points along each in-plane axis."""
    crop_sizes: Annotated[int, Range(0, 100)] = 0
    """So many random sizes and ratios of patches, none with more voxels than the plans' patch; 0:
    always that patch."""
    smallest_crop: Annotated[float, Range(0.05, 1)] = 0.5
    """Smallest length of such a patch along each axis, as a share of the plans' patch."""
    foreground_share: Annotated[float | None, Range(0, 1)] = None
    """Draw the class first, then a case that has it, then a voxel of it as the patch's centre: so
    many of the patches have a voxel of the foreground there, the others one of the organ mask
    (Hänsch et al. 2022). None: nnU-Net's sampling."""
    organ_dilation_mm: Annotated[float | None, Range(0, 1e3)] = None
    """The voxel loss counts within the organ mask dilated by so much only; None: everywhere."""

    warmup_epochs: Annotated[int | None, Range(0, 1e9)] = None
    """Phase 1 of objectives with a companion network: the segmentor alone, on its voxel loss. None:
    a share of num_epochs that the objective names (docs/objectives.md), or 0 with
    `segmentor_checkpoint`."""
    companion_epochs: Annotated[int | None, Range(0, 1e9)] = None
    """Phase 2: the companion alone. None: the objective's share of num_epochs, or 0 with
    `companion_checkpoint`. What is left of num_epochs is phase 3, in which both are trained."""
    segmentor_checkpoint: str | None = None
    """A trained segmentor to start from, with its heads: absolute or relative to nnUNet_results;
    {fold} stands for the fold, so that no fold starts from weights that have seen its validation
    cases."""
    companion_checkpoint: str | None = None
    """A trained companion to start from, as `segmentor_checkpoint`."""
    joint_lr: Annotated[float | None, Range(0, 1e3)] = None
    """The segmentor's learning rate when phase 3 begins; None: initial_lr. Every phase has the
    schedule for itself."""
    companion_optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    companion_lr: Annotated[float, Range(0, 1e3)] = 1e-3
    joint_companion_lr: Annotated[float | None, Range(0, 1e3)] = None
    """The companion's learning rate when phase 3 begins; None: companion_lr."""
    companion_momentum: Annotated[float, Range(0, 0.9999)] = 0.9
    """Momentum of SGD, first beta of the Adams."""
    companion_batch_size: Annotated[int | None, Range(1, 1e6)] = None
    """A multiple of the batch size, for the companion's own steps; None: the batch size."""
    companion_weight_decay: Annotated[float, Range(0, 1e3)] = 0.0
    companion_steps: Annotated[int, Range(1, 1e6)] = 1
    """Steps of the companion in each iteration of phase 3 (k_D)."""
    segmentor_steps: Annotated[int, Range(1, 1e6)] = 1
    """Steps of the segmentor in each iteration of phase 3 (k_S). One to one: both players learn
    from the same batch and the same forward pass; otherwise every step has a fresh batch."""

    seed: Annotated[int | None, Range(0, 2**63 - 1)] = None
    """Same seed, same batches: bitwise equal training on a CPU, also across interruptions. None
    draws one anew."""

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_voxel_terms()
        if self.objective not in OBJECTIVES:
            raise InputError(
                f"recipe: there is no objective {self.objective!r}, only {', '.join(OBJECTIVES)}."
            )
        _ = self.objective_numbers
        if self.contrast_low > self.contrast_high:
            raise InputError(
                f"recipe: contrast_low ({self.contrast_low}) must not be above contrast_high"
                f" ({self.contrast_high})."
            )

    def _check_voxel_terms(self) -> None:
        for name, weight in self.voxel_terms.items():
            if name not in VOXEL_TERMS:
                raise InputError(
                    f"recipe: there is no voxel term {name!r}, only {', '.join(VOXEL_TERMS)}."
                )
            check_type(name + WEIGHT, weight, float)
            WEIGHTS.check(name + WEIGHT, weight)
        if not any(self.voxel_terms.values()):
            weights = ", ".join(weight_names())
            raise InputError(
                f"recipe: all weights of voxel terms are 0 ({weights}), so the segmentor would"
                " learn nothing."
            )

    @property
    def objective_numbers(self) -> ObjectiveNumbers:
        """All numbers of the objective, an instance of its `numbers_type`."""
        known = objective_number_names(self.objective)
        unknown = sorted(set(self.objective_options) - set(known))
        if unknown:
            raise InputError(
                f"recipe: objective {self.objective} has no number {unknown[0]}, only"
                f" {', '.join(known) or 'the common ones'}."
            )
        return OBJECTIVES[self.objective].numbers_type(**self.objective_options)

    def to_json(self) -> dict[str, Any]:
        """Everything, flat."""
        common = {name: value for name, value in asdict(self).items() if name not in BY_NAME}
        weights = {name + WEIGHT: self.voxel_terms.get(name, 0.0) for name in VOXEL_TERMS}
        return common | weights | asdict(self.objective_numbers)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_json` gave, of this version or an earlier one.

        Version 0.1.0 wrote the numbers of all objectives; those of other ones are left out.

        Raises:
            InputError: a number that no objective has, a wrong type or a value out of its range.
        """
        foreign = set(foreign_owners(content, content["objective"]))
        flat = {name: value for name, value in content.items() if name not in foreign}
        named = {name: flat.pop(name) for name in NOT_A_NUMBER if name in flat}
        return cls(**named, **sort_numbers(flat, named["objective"], weights={}))


def common_number_names() -> tuple[str, ...]:
    """The numbers of every recipe, those of voxel terms and objectives aside."""
    names = (entry.name for entry in fields(Recipe))
    return tuple(name for name in names if name not in (*NOT_A_NUMBER, *BY_NAME))


def weight_names() -> tuple[str, ...]:
    """The numbers that weigh voxel terms."""
    return tuple(name + WEIGHT for name in VOXEL_TERMS)


def objective_number_names(objective: str) -> tuple[str, ...]:
    """The numbers that an objective declares."""
    return tuple(entry.name for entry in fields(OBJECTIVES[objective].numbers_type))


def number_names(objectives: Iterable[str]) -> tuple[str, ...]:
    """Every number that a recipe with one of these objectives may have."""
    declared = (name for key in objectives for name in objective_number_names(key))
    return tuple(dict.fromkeys((*common_number_names(), *weight_names(), *declared)))


def foreign_owners(numbers: Iterable[str], objective: str) -> dict[str, list[str]]:
    """Which of these numbers belong to other objectives only, each with those objectives."""
    known = number_names([objective]) if objective in OBJECTIVES else ()
    owners = {
        name: [key for key in OBJECTIVES if name in objective_number_names(key)]
        for name in numbers
        if name not in known
    }
    return {name: keys for name, keys in owners.items() if keys}


def sort_numbers(
    numbers: Mapping[str, Any], objective: str, weights: Mapping[str, float]
) -> dict[str, Any]:
    """Flat numbers of a recipe as its fields.

    Args:
        numbers: by their flat names.
        objective: whose numbers become `objective_options`.
        weights: of voxel terms, which NAME_weight changes.

    Raises:
        InputError: an unknown number.
    """
    unknown = sorted(set(numbers) - set(number_names([objective])))
    if unknown:
        raise InputError(
            f"unknown recipe keys {unknown}; known are"
            f" {', '.join(sorted(number_names([objective])))}."
        )
    common = {name: numbers[name] for name in common_number_names() if name in numbers}
    declared = objective_number_names(objective)
    options = {name: numbers[name] for name in declared if name in numbers}
    given = {name: numbers[name + WEIGHT] for name in VOXEL_TERMS if name + WEIGHT in numbers}
    return {**common, "objective_options": options, "voxel_terms": {**weights, **given}}
