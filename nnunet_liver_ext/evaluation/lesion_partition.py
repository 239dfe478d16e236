"""Which lesions of two maps belong together: disjoint correspondences with the largest sum of Dice.

A correspondence is a set of lesions with at least one of each map. With o the voxels that its two
unions share and v the sum of all its volumes, its Dice is 2·o / v. Hänsch et al. 2022, "Detection
performance", cluster lesions "so that the per-correspondence Dice score is maximized", by an
algorithm of Chlebus et al. 2018 that the paper does not describe; the sum over the correspondences
is our reading.

Only connected sets of overlapping lesions matter: the Dice of a set that falls into parts lies
between those of the parts (a mediant), hence below their sum. So each connected cluster of lesions
is solved by itself, see `lesion_clusters`, and lesions without overlap never correspond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nnunet_liver_ext.evaluation.lesion_clusters import LesionCluster, LesionSet, OverlapGraph

EXACT_CORE = 14
"""The most lesions that overlap two or more others for which a cluster is solved exactly."""


@dataclass(frozen=True)
class Partition:
    """Disjoint correspondences."""

    correspondences: list[LesionSet]
    exact: bool
    """Whether no other partition has a larger sum of Dice."""


def best_partition(graph: OverlapGraph) -> Partition:
    """The disjoint correspondences with the largest sum of Dice.

    Of partitions with the same sum, the one with more correspondences is taken, then the one with
    more lesions in them, then the one that comes first in the order of the numbers. The result is
    exact if every cluster has at most `EXACT_CORE` lesions that overlap two or more others.
    """
    correspondences: list[LesionSet] = []
    exact = True
    for lesions in _connected_clusters(graph):
        cluster = LesionCluster(graph, lesions)
        small = len(cluster.core) <= EXACT_CORE
        exact &= small
        correspondences += cluster.solve_exactly() if small else cluster.solve_by_windows()
    return Partition(correspondences, exact)


def _connected_clusters(graph: OverlapGraph) -> Iterator[LesionSet]:
    """The connected parts of the graph with two or more lesions, each in ascending order."""
    seen: set[int] = set()
    for start, overlaps in enumerate(graph.overlaps):
        if overlaps and start not in seen:
            cluster = [start]
            seen.add(start)
            for lesion in cluster:  # grows on the way
                new = [other for other in graph.overlaps[lesion] if other not in seen]
                seen.update(new)
                cluster.extend(new)
            yield tuple(sorted(cluster))
