"""The recipe of a trainer: strategy, objective and numbers, and how a plans file overrides the
numbers.

A named trainer is `LiverTrainer` plus one frozen `Recipe`. The configuration in the plans may carry
`"recipe": {...}` with other numbers, its ancestors along `inherits_from` too (nnU-Net merges
configurations shallowly, so the nested recipes are merged here, oldest ancestor first), and
`"protocol": NAME` (`protocols`): class < protocol < plans. Strategy, objective and a promised
network are what a trainer's name says and cannot be overridden.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.protocols import find_protocol

PLANS_KEY = "nnunet_liver_ext"
"""Where the plans saved with a model, and its checkpoints, hold the resolved recipe and the
package's version."""

NOT_A_NUMBER = ("strategy", "objective", "architecture")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one trainer trains. The defaults are nnU-Net's own numbers (nnU-Net 2.8,
    `nnUNetTrainer.__init__`)."""

    strategy: str
    """Key of `networks.strategies.STRATEGIES`: how the images enter and leave the segmentor."""
    objective: str = "dice_ce"
    """Key of `trainers.objectives.OBJECTIVES`: what the segmentor is trained on."""
    architecture: str | None = None
    """Class name of the only network that the trainer takes; None: whatever the plans say."""

    num_epochs: int = 1000
    num_iterations_per_epoch: int = 250
    num_val_iterations_per_epoch: int = 50
    save_every: int = 50
    """A `checkpoint_latest.pth` every so many epochs."""
    best_by: Literal["moving_average", "epoch"] = "moving_average"
    """What `checkpoint_best.pth` is the best of: nnU-Net's moving average of the mean foreground
    Dice, or single epochs."""
    keep: Literal["final", "best"] = "final"
    """Which state becomes `checkpoint_final.pth`. The best one was chosen on the validation fold,
    whose scores are then optimistic: keep a test set apart."""

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    initial_lr: float = 1e-2
    lr_exponent: float = 0.9
    """Learning rate = initial_lr · (1 − progress of the phase)^lr_exponent; 0 keeps it constant."""
    lr_drop_epoch: int | None = None
    """A tenth of the learning rate from this epoch of a phase on in which the segmentor learns
    alone; None: no drop."""
    momentum: float | None = None
    """Nesterov momentum of SGD (None: nnU-Net's 0.99), first beta of the Adams (None: 0.9)."""
    weight_decay: float = 3e-5
    gradient_clip: float = 12.0
    """Largest norm of the gradient of a player."""

    dice_weight: float = 1.0
    ce_weight: float = 1.0
    deep_supervision: bool = True

    oversample_foreground_percent: float = 0.33
    """Share of patches that are centred on a foreground voxel; in pairs its marginal class is drawn
    first."""
    probabilistic_oversampling: bool = False
    """Draw that share patch by patch; with batch size 1 nnU-Net's own rounding would never
    oversample."""
    augmentation: Literal["nnunet", "none"] = "nnunet"
    """nnU-Net's training transforms, or none of them."""
    mirroring: bool = True
    """Random mirroring in training, and mirrored test-time augmentation, along all axes."""
    flip_probability: float = 0.0
    """Flips along each axis for itself (Hänsch et al. 2022). This and the following come before
    those of `augmentation`."""
    contrast_low: float = 1.0
    """The distance from the image's mean is multiplied by a number in [contrast_low,
    contrast_high)."""
    contrast_high: float = 1.0
    shift_sd: float = 0.0
    """A number out of N(0, shift_sd²) is added to the image."""
    shift_range: float = 0.0
    """A number in [−shift_range, shift_range) is added to the image (Couteaux et al. 2021)."""
    elastic_sd_voxels: float = 0.0
    """In-plane elastic deformation by control points with displacements of this standard deviation;
    all slices alike."""
    elastic_points: int = 8
    """Control points along each in-plane axis."""
    crop_sizes: int = 0
    """So many random sizes and ratios of patches, none with more voxels than the plans' patch; 0:
    always that patch."""
    smallest_crop: float = 0.5
    """Smallest length of such a patch along each axis, as a share of the plans' patch."""
    foreground_share: float | None = None
    """Draw the class first, then a case that has it, then a voxel of it as the patch's centre: so
    many of the patches have a voxel of the foreground there, the others one of the organ mask
    (Hänsch et al. 2022). None: nnU-Net's sampling."""
    organ_dilation_mm: float | None = None
    """The voxel loss counts within the organ mask dilated by so much only; None: everywhere."""

    warmup_epochs: int | None = None
    """Phase 1 of objectives with a companion network: the segmentor alone, on its voxel loss. None:
    a share of num_epochs that the objective names (docs/objectives.md), or 0 with
    `segmentor_checkpoint`."""
    companion_epochs: int | None = None
    """Phase 2: the companion alone. None: the objective's share of num_epochs, or 0 with
    `companion_checkpoint`. What is left of num_epochs is phase 3, in which both are trained."""
    segmentor_checkpoint: str | None = None
    """A trained segmentor to start from, with its heads: absolute or relative to nnUNet_results;
    {fold} stands for the fold, so that no fold starts from weights that have seen its validation
    cases."""
    companion_checkpoint: str | None = None
    """A trained companion to start from, as `segmentor_checkpoint`."""
    joint_lr: float | None = None
    """The segmentor's learning rate when phase 3 begins; None: initial_lr. Every phase has the
    schedule for itself."""
    companion_optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    companion_lr: float = 1e-3
    joint_companion_lr: float | None = None
    """The companion's learning rate when phase 3 begins; None: companion_lr."""
    companion_momentum: float = 0.9
    """Momentum of SGD, first beta of the Adams."""
    companion_batch_size: int | None = None
    """A multiple of the batch size, for the companion's own steps; None: the batch size."""
    companion_weight_decay: float = 0.0
    companion_steps: int = 1
    """Steps of the companion in each iteration of phase 3 (k_D)."""
    segmentor_steps: int = 1
    """Steps of the segmentor in each iteration of phase 3 (k_S). One to one: both players learn
    from the same batch and the same forward pass; otherwise every step has a fresh batch."""

    adversarial_weight: float = 1.0
    """Weight of the term with which the segmentor deceives the discriminator."""
    embedding_weight: float = 1.0
    embedding_layer: int | None = None
    """D_k: the layer of the discriminator that the embedding loss compares, 1 is the first; None:
    the deepest."""
    spectral_norm: bool = False
    gradient_penalty: float = 0.0
    """Weight of the discriminator's squared gradient at annotations (R1); 0: none."""
    betting_weight: float = 1.0
    """λ of the bets in the segmentor's loss."""
    budget_floor: float = 0.02
    """What the gambler bets on every voxel, before its bets are normalised."""

    lambda_r: float = 0.1
    """Weight of the segmentation loss L_r in phase 3; the λ's are the paper's for the liver."""
    lambda_g: float = 1.0
    """Weight of the registration loss L_g."""
    lambda_p: float = 1.0
    """Weight of the similarity loss L_p."""
    registor_gate: float = 0.8
    """Share of the way from no registration to D_S that the registor must go on held-out
    annotations after phase 2; below it, training warns."""
    max_shift_voxels: float = 32.0
    """Largest translation of a registor with a translation, along each axis."""
    max_rotation_deg: float = 30.0
    """Largest angle of a rigid or an affine registor."""
    max_log_stretch: float = 0.2
    """Largest stretch of an affine registor: lengths change by a factor of at most exp(±0.2)."""

    seed: int | None = None
    """Same seed, same batches: bitwise equal training on a CPU, also across interruptions. None
    draws one anew."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), hints[field.name])
        for name, low, high in RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"recipe: {name} must lie in [{low:g}, {high:g}], found {value}.")
        if self.dice_weight == self.ce_weight == 0:
            raise InputError(
                "recipe: dice_weight and ce_weight are both 0, so the segmentor would learn"
                " nothing."
            )
        if self.contrast_low > self.contrast_high:
            raise InputError(
                f"recipe: contrast_low ({self.contrast_low}) must not be above contrast_high"
                f" ({self.contrast_high})."
            )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


RANGES: tuple[tuple[str, float, float], ...] = (
    ("num_epochs", 1, 1e9),
    ("num_iterations_per_epoch", 1, 1e9),
    ("num_val_iterations_per_epoch", 1, 1e9),
    ("save_every", 1, 1e9),
    ("initial_lr", 0, 1e3),
    ("lr_exponent", 0, 10),
    ("lr_drop_epoch", 1, 1e9),
    ("momentum", 0, 0.9999),
    ("weight_decay", 0, 1e3),
    (
        "gradient_clip",
        1e-6,
        1e9,
    ),  # 0 would not switch clipping off, it would clip every gradient to nothing
    ("dice_weight", 0, 1e9),
    ("ce_weight", 0, 1e9),
    ("oversample_foreground_percent", 0, 1),
    ("flip_probability", 0, 1),
    ("contrast_low", 0, 10),
    ("contrast_high", 0, 10),
    ("shift_sd", 0, 1e6),
    ("shift_range", 0, 1e6),
    ("elastic_sd_voxels", 0, 1e3),
    ("elastic_points", 4, 64),
    ("crop_sizes", 0, 100),
    ("smallest_crop", 0.05, 1),
    ("foreground_share", 0, 1),
    ("organ_dilation_mm", 0, 1e3),
    ("warmup_epochs", 0, 1e9),
    ("companion_epochs", 0, 1e9),
    ("joint_lr", 0, 1e3),
    ("companion_lr", 0, 1e3),
    ("joint_companion_lr", 0, 1e3),
    (
        "companion_momentum",
        0,
        0.9999,
    ),  # an Adam whose first beta is 1 never moves, and torch refuses it
    ("companion_batch_size", 1, 1e6),
    ("companion_weight_decay", 0, 1e3),
    ("companion_steps", 1, 1e6),
    ("segmentor_steps", 1, 1e6),
    ("adversarial_weight", 0, 1e9),
    ("embedding_weight", 0, 1e9),
    ("embedding_layer", 1, 1e3),
    ("gradient_penalty", 0, 1e9),
    ("betting_weight", 0, 1e9),
    ("budget_floor", 1e-6, 1),
    ("lambda_r", 0, 1e3),
    ("lambda_g", 0, 1e3),
    ("lambda_p", 0, 1e3),
    ("registor_gate", 0, 1),
    ("max_shift_voxels", 0, 1e4),
    ("max_rotation_deg", 0, 180),
    ("max_log_stretch", 0, 2),
    ("seed", 0, 2**63 - 1),
)


def number_fields() -> tuple[str, ...]:
    """Names of the fields that a plans file may override."""
    return tuple(field.name for field in fields(Recipe) if field.name not in NOT_A_NUMBER)


def override(recipe: Recipe, numbers: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with other numbers.

    Raises:
        InputError: an unknown key (the message lists the known ones), a wrong type or a value
            outside its range.
    """
    if not isinstance(numbers, Mapping):
        raise InputError(
            f'{where}: recipe must be numbers by name, such as {{"num_epochs": 500}}, found'
            f" {numbers!r}."
        )
    unknown = sorted(set(numbers) - set(number_fields()))
    if unknown:
        raise InputError(
            f"{where}: unknown recipe keys {unknown}; known are"
            f" {', '.join(sorted(number_fields()))}."
        )
    try:
        return replace(recipe, **numbers)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def resolve(recipe: Recipe, plans: Mapping[str, Any], configuration: str) -> Recipe:
    """A trainer's recipe with what the protocol, the plans' configuration and its ancestors
    override.

    Args:
        recipe: the trainer's own.
        plans: content of a plans file.
        configuration: name of a configuration in it.

    Raises:
        InputError: as `override`, an unknown protocol, or a missing or circular `inherits_from`.
    """
    ancestry = _ancestry(plans, configuration)
    protocol = next(
        (entry["protocol"] for _, entry in ancestry if entry.get("protocol") is not None), None
    )
    if protocol is not None:
        recipe = override(recipe, find_protocol(protocol).numbers, f"protocol {protocol}")
    for name, entry in reversed(ancestry):
        recipe = override(
            recipe,
            entry.get("recipe", {}),
            f"plans {plans.get('plans_name')}, configuration {name}",
        )
    return recipe


def _ancestry(plans: Mapping[str, Any], configuration: str) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, entry) of the configuration, its parent, its parent's parent, ..."""
    if configuration not in plans["configurations"]:
        known = ", ".join(plans["configurations"])
        raise InputError(
            f"plans {plans.get('plans_name')} have no configuration {configuration}; there are"
            f" {known}."
        )
    entries: list[tuple[str, Mapping[str, Any]]] = []
    name: str | None = configuration
    while name is not None:
        if name not in plans["configurations"] or name in dict(entries):
            raise InputError(
                f"plans {plans.get('plans_name')}: configuration {configuration} inherits from"
                f" {name}, which is"
                f" {'missing' if name not in plans['configurations'] else 'circular'}."
            )
        entries.append((name, plans["configurations"][name]))
        name = entries[-1][1].get("inherits_from")
    return entries


def _check_type(name: str, value: Any, expected: Any) -> None:
    if get_origin(expected) is Literal:
        if value not in get_args(expected):
            raise InputError(
                f"recipe: {name} must be one of {', '.join(get_args(expected))}, found {value!r}."
            )
        return
    kinds = get_args(expected) if get_origin(expected) in (Union, types.UnionType) else (expected,)
    if float in kinds:
        kinds = (*kinds, int)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
        raise InputError(f"recipe: {name} must be {wanted}, found {value!r}.")
