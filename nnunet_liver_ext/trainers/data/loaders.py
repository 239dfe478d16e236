"""The two loaders of a training: seeded and ordered, as the recipe asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks.strategies import unwrap
from nnunet_liver_ext.trainers.data.augmentation import paper_transforms
from nnunet_liver_ext.trainers.data.class_sampling import ClassFirstSampling, cases_by_class
from nnunet_liver_ext.trainers.data.crops import bucketed_sizes, core, envelope
from nnunet_liver_ext.trainers.data.ordered_batches import (
    MarginalForegroundSampling,
    OrderedAugmenter,
    SeededDataLoader,
    make_reproducible,
)
from nnunet_liver_ext.trainers.data.organ_channel import OrganChannel

if TYPE_CHECKING:
    from nnunet_liver_ext.trainers.base import LiverTrainer

TRAINING, VALIDATION = 0, 1
"""Streams of random numbers; those of further ranks follow."""


def make_loaders(trainer: LiverTrainer) -> tuple[OrderedAugmenter, OrderedAugmenter]:
    """Training and validation loader of an initialised `LiverTrainer`."""
    patch_size = tuple(trainer.configuration_manager.patch_size)
    crops = crop_sizes(trainer, patch_size)
    training_size = envelope(crops) if crops else patch_size
    training, initial_size, validation = _transforms(trainer, training_size)
    of_training, of_validation = trainer.get_tr_and_val_datasets()
    of_training = _with_sampling(trainer, of_training)
    of_validation = _with_sampling(trainer, of_validation, only_if_possible=True)
    workers = get_allowed_n_proc_DA()
    epoch, validations = trainer.current_epoch, trainer.num_val_iterations_per_epoch
    first = _loader(
        trainer,
        TRAINING,
        of_training,
        initial_size,
        compared_size(trainer, core(crops) if crops else patch_size),
        training,
        trainer.batches_used(),
    )
    first.crops, first.crop_scales = crops, trainer._get_deep_supervision_scales()
    second = _loader(
        trainer,
        VALIDATION,
        of_validation,
        patch_size,
        compared_size(trainer, patch_size),
        validation,
        epoch * validations,
    )
    pin = trainer.device.type == "cuda"
    return (
        OrderedAugmenter(first, workers, pin_memory=pin),
        OrderedAugmenter(second, (workers + 1) // 2, pin_memory=pin),
    )


def compared_size(trainer: LiverTrainer, size: tuple[int, ...]) -> tuple[int, ...]:
    """What of a patch is compared with the labels.

    Patches reach so far beyond an image that it can lie at the image's border.

    Args:
        trainer: whose network may lose a margin on each side.
        size: of the smallest patch.
    """
    margin = unwrap(trainer.network).margin
    return tuple(n - 2 * lost for n, lost in zip(size, margin, strict=True)) if margin else size


def crop_sizes(trainer: LiverTrainer, patch_size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The sizes of random crops; none if patches have one size."""
    recipe = trainer.recipe
    if recipe.crop_sizes == 0:
        return []
    if len(patch_size) != 3:
        raise InputError(
            "recipe: crop_sizes needs patches of three axes; set it to 0 for 2D configurations."
        )
    strides = trainer.configuration_manager.pool_op_kernel_sizes
    multiple = [1, 1, 1]
    for stride in strides:
        multiple = [m * s for m, s in zip(multiple, stride, strict=True)]
    if any(n % m for n, m in zip(patch_size, multiple, strict=True)):
        raise InputError(
            "recipe: crop_sizes needs a patch that is a multiple of the network's strides"
            f" {multiple}, found {patch_size}."
        )
    image_size = [round(n) for n in trainer.configuration_manager.median_image_size_in_voxels]
    return bucketed_sizes(
        patch_size,
        multiple,
        image_size,
        count=recipe.crop_sizes,
        smallest=recipe.smallest_crop,
        seed=trainer.seed,
    )


def _transforms(trainer: LiverTrainer, training_size: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Transforms of training, the size of patch that they take, transforms of validation."""
    recipe, configuration = trainer.recipe, trainer.configuration_manager
    scales = trainer._get_deep_supervision_scales()
    with _patch_size(configuration, training_size):
        rotation, dummy_2d, initial_size, mirror_axes = (
            trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
    manager = trainer.label_manager
    labels = {
        "is_cascaded": trainer.is_cascaded,
        "foreground_labels": manager.foreground_labels,
        "regions": manager.foreground_regions if manager.has_regions else None,
        "ignore_label": manager.ignore_label,
    }
    use_mask_for_norm = configuration.use_mask_for_norm
    if trainer.organ is not None:
        use_mask_for_norm = use_mask_for_norm[: trainer.organ.channel]
    validation = trainer.get_validation_transforms(scales, **labels)
    if recipe.augmentation == "none":
        training, initial_size = validation, training_size
    else:
        training = trainer.get_training_transforms(
            training_size,
            rotation,
            scales,
            mirror_axes,
            dummy_2d,
            use_mask_for_norm=use_mask_for_norm,
            **labels,
        )
    of_paper = paper_transforms(
        flip_probability=recipe.flip_probability,
        contrast_low=recipe.contrast_low,
        contrast_high=recipe.contrast_high,
        shift_sd=recipe.shift_sd,
        shift_range=recipe.shift_range,
        elastic_sd_voxels=recipe.elastic_sd_voxels,
        elastic_points=recipe.elastic_points,
    )
    if of_paper:
        training = ComposeTransforms([*of_paper, *training.transforms])
    make_reproducible(training)
    return training, initial_size, validation


@contextmanager
def _patch_size(configuration: Any, size: tuple[int, ...]) -> Iterator[None]:
    """Meanwhile nnU-Net takes `size` for the plans' patch when it works out a rotation's margin."""
    planned = configuration.configuration["patch_size"]
    configuration.configuration["patch_size"] = list(size)
    try:
        yield
    finally:
        configuration.configuration["patch_size"] = planned


def _with_sampling(trainer: LiverTrainer, dataset: Any, *, only_if_possible: bool = False) -> Any:
    """The dataset as its voxels are to be sampled.

    A validation fold without a lesion is sampled as nnU-Net does.
    """
    if trainer.pair is not None:
        return MarginalForegroundSampling(dataset, trainer.pair)
    if trainer.organ is None:
        return dataset
    dataset = OrganChannel(dataset, trainer.organ.channel)
    share = trainer.recipe.foreground_share
    if share is None or (only_if_possible and not cases_by_class(dataset)):
        return dataset
    return ClassFirstSampling(dataset, share)


def _loader(
    trainer: LiverTrainer,
    stream: int,
    dataset: Any,
    patch_size: Any,
    final_size: Any,
    transforms: Any,
    start: int,
) -> SeededDataLoader:
    class_first = isinstance(dataset, ClassFirstSampling)
    loader = SeededDataLoader(
        dataset,
        trainer.batch_size,
        patch_size,
        final_size,
        trainer.label_manager,
        oversample_foreground_percent=1.0 if class_first else trainer.oversample_foreground_percent,
        probabilistic_oversampling=False if class_first else trainer.probabilistic_oversampling,
        transforms=transforms,
    )
    loader.seed, loader.stream = trainer.seed, stream + 2 * trainer.local_rank
    loader.start = start
    return loader
