"""Which lesions of two maps belong together: disjoint correspondences with the largest sum of Dice.

A correspondence is a set of lesions with at least one of each map. With o the voxels that its two
unions share and v the sum of all its volumes, its Dice is 2·o / v. Hansch et al. 2022, "Detection
performance", cluster lesions "so that the per-correspondence Dice score is maximized", by an
algorithm of Chlebus et al. 2018 that the paper does not describe; the sum over the correspondences
is our reading. The search uses three facts about the graph that joins lesions which overlap:

1. Only connected sets matter. The Dice of a set that falls into parts lies between those of the
parts (a mediant), hence
   below their sum. So each connected cluster of the graph is solved by itself, and lesions without
   overlap never correspond.
2. A leaf, a lesion that overlaps only one other (its hub), can only be in the correspondence of
that one. The best leaves
   for given hubs are all those with o_leaf / v_leaf ≥ o / v, the final ratio (Dinkelbach 1967).
   What remains to be searched
   is the core of a cluster: its lesions that overlap two or more.
3. The best partition of a set of core lesions is some connected set that holds the first of them,
with the best partition
   of the others: dynamic programming over subsets, at most about 3^(n - 1) steps for n core
       lesions.

A core of more than `EXACT_CORE` lesions starts from the greedy one-to-one pairs, best Dice first,
and is improved by exact search in windows of `WINDOW` core lesions until nothing improves or
`SWEEPS` are over: never worse than the greedy pairs.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import NamedTuple

EXACT_CORE = 14
"""The most lesions that overlap two or more others for which a cluster is solved exactly."""
WINDOW = 8
SWEEPS = 10
SAME_SUM = 1e-12  # sums of Dice that differ by less are equal up to rounding

LesionSet = tuple[int, ...]


@dataclass(frozen=True)
class OverlapGraph:
    """The lesions of both maps, numbered 0..n - 1, in one graph."""

    volumes: Sequence[int]
    """Voxels of each lesion, 1 or more."""
    overlaps: Sequence[Mapping[int, int]]
    """For each lesion those of the other map that it overlaps, with the voxels that both share."""


@dataclass(frozen=True)
class Partition:
    """Disjoint correspondences."""

    correspondences: list[LesionSet]
    exact: bool
    """Whether no other partition has a larger sum of Dice."""


class _Solution(NamedTuple):
    """Disjoint sets that together are some core lesions; the Dice of a set may be 0. Numbers are
    with the leaves."""

    dice_sum: float
    correspondences: int
    lesions: int
    sets: tuple[LesionSet, ...]

    def joined(self, other: _Solution) -> _Solution:
        return _Solution(
            self.dice_sum + other.dice_sum,
            self.correspondences + other.correspondences,
            self.lesions + other.lesions,
            self.sets + other.sets,
        )

    def better_than(self, other: _Solution) -> bool:
        if abs(self.dice_sum - other.dice_sum) > SAME_SUM:
            return self.dice_sum > other.dice_sum
        return (self.correspondences, self.lesions) > (other.correspondences, other.lesions)


NOTHING = _Solution(0.0, 0, 0, ())


def best_partition(graph: OverlapGraph) -> Partition:
    """The disjoint correspondences with the largest sum of Dice, see the module.

    Of partitions with the same sum, the one with more correspondences is taken, then the one with
    more lesions in them, then the one that is found first in the order of the numbers. `exact` is
    true if every core was at most `EXACT_CORE`.
    """
    correspondences, exact = [], True
    for lesions in _connected_clusters(graph):
        cluster = _Cluster(graph, lesions)
        small = len(cluster.core) <= EXACT_CORE
        exact &= small
        solution = cluster.best(cluster.core) if small else cluster.improved_greedy()
        correspondences += [
            cluster.with_leaves(own) for own in solution.sets if cluster.alone(own).correspondences
        ]
    return Partition(correspondences, exact)


class _Leaves:
    """The leaves of one hub, in descending order of their covered shares o / v, and the sums over
    the first of them."""

    def __init__(self, graph: OverlapGraph, hub: int, leaves: Sequence[int]) -> None:
        share = {leaf: graph.overlaps[leaf][hub] / graph.volumes[leaf] for leaf in leaves}
        self.order = sorted(leaves, key=lambda leaf: (-share[leaf], leaf))
        self.uncovered = [-share[leaf] for leaf in self.order]
        self.overlaps = [0, *accumulate(graph.overlaps[leaf][hub] for leaf in self.order)]
        self.volumes = [0, *accumulate(graph.volumes[leaf] for leaf in self.order)]

    def count(self, share: float) -> int:
        """How many have at least this covered share."""
        return bisect_right(self.uncovered, -share)


class _Cluster:
    """Lesions that hang together by overlaps: core lesions, and leaves that each overlap one of
    these only."""

    def __init__(self, graph: OverlapGraph, lesions: LesionSet) -> None:
        self.graph, self.lesions = graph, lesions
        self.core = tuple(n for n in lesions if len(graph.overlaps[n]) > 1) or lesions[:1]
        core = set(self.core)
        self.leaves = {
            n: _Leaves(graph, n, [b for b in graph.overlaps[n] if b not in core]) for n in core
        }
        self.near = {n: _neighbours_in(core, graph.overlaps[n]) for n in core}
        self._solved: dict[LesionSet, _Solution] = {}

    def alone(self, chosen: LesionSet) -> _Solution:
        """These core lesions as one correspondence, with those of their leaves that give the
        highest Dice."""
        overlap, volume, lesions = self._best_ratio(chosen)
        return (
            _Solution(2 * overlap / volume, 1, lesions, (chosen,))
            if overlap
            else NOTHING._replace(sets=(chosen,))
        )

    def with_leaves(self, chosen: LesionSet) -> LesionSet:
        """All lesions of that correspondence, ascending."""
        overlap, volume, _ = self._best_ratio(chosen)
        leaves = (
            self.leaves[hub].order[: self.leaves[hub].count(overlap / volume)] for hub in chosen
        )
        return tuple(sorted((*chosen, *(leaf for own in leaves for leaf in own))))

    def best(self, lesions: LesionSet) -> _Solution:
        """The best partition of these core lesions and their leaves, as if there were no others."""
        if lesions not in self._solved:
            self._solved[lesions] = self._search(lesions)
        return self._solved[lesions]

    def improved_greedy(self) -> _Solution:
        """The greedy pairs, improved by exact search in one window after the other."""
        owner = self._greedy_sets()
        for _ in range(SWEEPS):
            before = set(owner.values())
            for lesion in self.core:
                sets = self._window(owner, lesion)
                solved = self.best(tuple(sorted(n for own in sets for n in own)))
                if solved.better_than(self._together(sets)):
                    owner.update({n: own for own in solved.sets for n in own})
            if set(owner.values()) == before:
                break
        return self._together(tuple(dict.fromkeys(owner.values())))

    def _best_ratio(self, chosen: LesionSet) -> tuple[int, int, int]:
        """Shared voxels, volume and number of lesions of the core lesions with the leaves of the
        highest shared / volume."""
        overlaps, leaves = self.graph.overlaps, [self.leaves[n] for n in chosen]
        shared = sum(overlaps[a].get(b, 0) for a in chosen for b in chosen) // 2
        volume = sum(self.graph.volumes[n] for n in chosen)
        ratio, best = -1.0, (shared, volume, len(chosen))
        while best[0] / best[1] > ratio:
            ratio = best[0] / best[1]
            counts = [own.count(ratio) for own in leaves]
            best = (
                shared + sum(own.overlaps[n] for own, n in zip(leaves, counts, strict=True)),
                volume + sum(own.volumes[n] for own, n in zip(leaves, counts, strict=True)),
                len(chosen) + sum(counts),
            )
        return best

    def _search(self, lesions: LesionSet) -> _Solution:
        overlaps = [self.graph.overlaps[a] for a in lesions]
        near = [sum(1 << n for n, b in enumerate(lesions) if b in own) for own in overlaps]

        @cache
        def of_set(chosen: int) -> _Solution:
            return self.alone(tuple(lesion for n, lesion in enumerate(lesions) if chosen >> n & 1))

        @cache
        def of_rest(rest: int) -> _Solution:
            found = None
            for chosen in _connected_sets(rest, near) if rest else ():
                candidate = of_set(chosen).joined(of_rest(rest & ~chosen))
                if found is None or candidate.better_than(found):
                    found = candidate
            return found or NOTHING

        return of_rest((1 << len(lesions)) - 1)

    def _together(self, sets: Sequence[LesionSet]) -> _Solution:
        solution = NOTHING
        for chosen in sets:
            solution = solution.joined(self.alone(chosen))
        return solution

    def _greedy_sets(self) -> dict[int, LesionSet]:
        """For each core lesion what is in the core of its greedy pair."""
        volumes, free = self.graph.volumes, set(self.lesions)
        dice = {
            (min(a, b), max(a, b)): 2 * shared / (volumes[a] + volumes[b])
            for a in self.core
            for b, shared in self.graph.overlaps[a].items()
        }
        owner: dict[int, LesionSet] = {n: (n,) for n in self.core}
        for pair in sorted(dice, key=lambda own: (-dice[own], own)):
            if free.issuperset(pair):
                free.difference_update(pair)
                core = tuple(n for n in pair if n in owner)
                owner.update(dict.fromkeys(core, core))
        return owner

    def _window(self, owner: Mapping[int, LesionSet], lesion: int) -> list[LesionSet]:
        """The lesion's set and sets around it, breadth first, that together have at most `WINDOW`
        core lesions."""
        sets, members = [owner[lesion]], list(owner[lesion])
        for a in members:  # grows on the way
            for b in self.near[a]:
                if len(members) + len(owner[b]) <= WINDOW and owner[b] not in sets:
                    sets.append(owner[b])
                    members.extend(owner[b])
        return sets


def _neighbours_in(core: set[int], overlaps: Mapping[int, int]) -> list[int]:
    """The core lesions among those overlapped, the largest overlap first."""
    return sorted(core.intersection(overlaps), key=lambda other: (-overlaps[other], other))


def _connected_sets(rest: int, near: Sequence[int]) -> Iterator[int]:
    """All connected subsets of the bits of `rest` that hold the lowest one, each once; near[n]: the
    neighbours of bit n."""
    first = rest & -rest
    allowed = rest ^ first
    stack = [(first, near[first.bit_length() - 1] & allowed, allowed)]
    while stack:
        chosen, frontier, allowed = stack.pop()
        yield chosen
        larger = []
        while frontier:
            new = frontier & -frontier
            frontier ^= new
            allowed ^= new
            larger.append((chosen | new, frontier | near[new.bit_length() - 1] & allowed, allowed))
        stack.extend(reversed(larger))


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
