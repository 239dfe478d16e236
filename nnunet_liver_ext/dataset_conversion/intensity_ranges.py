"""The range of intensities of a dataset: percentiles of the voxels of all training images.

Each image gives its voxels, in their order, at 10,000 evenly spaced ranks (all of them if there are
fewer), each with the weight of the voxels that it stands for. A percentile is the smallest value
with at least that share of the weight at or below it. That is off by no more than one rank in
10,000 of each image, and there are no bins to be known before. Images count as they are on disk,
before they go onto their grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_liver_ext.dataset_conversion.write_case import CaseJob
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import array
from nnunet_liver_ext.space.intensities import Intensities
from nnunet_liver_ext.space.padding import replace_padding
from nnunet_liver_ext.workers import run_in_processes

RANKS = 10_000


@dataclass(frozen=True)
class Sample:
    """Sorted voxels of an image, and how many it has."""

    values: np.ndarray
    voxels: int

    @classmethod
    def from_voxels(cls, values: np.ndarray) -> Sample:
        ordered = np.sort(values, axis=None)
        if ordered.size > RANKS:
            ordered = ordered[((np.arange(RANKS) + 0.5) * ordered.size / RANKS).astype(np.int64)]
        return cls(ordered.astype(np.float64), values.size)


def intensities_with_ranges(
    manifest: Manifest, jobs: Sequence[CaseJob], processes: int
) -> Intensities:
    """The intensities that a dataset was begun with, with the ranges of its images.

    Ranges that are not known yet are measured and noted in the manifest, so that cases that are
    added later get the same.

    Raises:
        InputError: as `measure_ranges`.
    """
    intensities = Intensities.from_json(manifest.settings.get("intensities"))
    if intensities.needs_measuring:
        intensities = intensities.with_ranges(
            measure_ranges(jobs, intensities.percentiles, processes)
        )
        manifest.settings["intensities"] = intensities.to_json()
    return intensities


def measure_ranges(
    jobs: Sequence[CaseJob], percentiles: tuple[float, float], processes: int
) -> list[tuple[float, float]]:
    """What becomes 0 and 1 in each channel, from the images of the training cases among these.

    Images that cannot be read are left out; the conversion says what is wrong with them.

    Raises:
        InputError: there are no training images, or they have no contrast.
    """
    training = [job for job in jobs if job.part == "Tr"]
    by_index = dict(run_in_processes(sample_images, training, processes))
    cases = [by_index[index] for index in range(len(training))]  # sums of weights are rounded
    channels = training[0].settings.image_channels if training else ()
    pooled = {name: [samples[name] for samples in cases if name in samples] for name in channels}
    if not pooled or not all(pooled.values()):
        raise InputError(
            "--intensities dataset is measured on training images, and none could be read."
        )
    return [_range(name, samples, percentiles) for name, samples in pooled.items()]


def sample_images(job: CaseJob) -> dict[str, Sample]:
    """A sample of each image of a study, by modality; nothing of a study that cannot be read."""
    try:
        images = {
            name: job.study.images[name]
            for name in job.settings.modalities
            if name in job.study.images
        }
        return {
            name: Sample.from_voxels(replace_padding(array(job.reader.read_image(path))))
            for name, path in images.items()
        }
    except (InputError, OSError, RuntimeError, MemoryError):
        return {}


def pooled_percentiles(samples: Sequence[Sample], percentiles: Sequence[float]) -> np.ndarray:
    """Percentiles (0..100) of the voxels that the samples stand for."""
    values = np.concatenate([sample.values for sample in samples])
    weights = np.concatenate(
        [np.full(sample.values.size, sample.voxels / sample.values.size) for sample in samples]
    )
    order = np.argsort(values, kind="stable")
    shares = np.cumsum(weights[order])
    wanted = np.asarray(percentiles, float) / 100 * shares[-1]
    places = np.searchsorted(shares, wanted * (1 - 1e-12), side="left")
    return values[order][np.minimum(places, values.size - 1)]


def _range(
    name: str, samples: Sequence[Sample], percentiles: tuple[float, float]
) -> tuple[float, float]:
    low, high = (float(value) for value in pooled_percentiles(samples, percentiles))
    if not high > low:
        raise InputError(
            f"the {name} images have no contrast to normalise: percentiles {percentiles[0]:g} and"
            f" {percentiles[1]:g} of all training images are both {low:g}; take wider"
            " --clip-percentiles."
        )
    return low, high
