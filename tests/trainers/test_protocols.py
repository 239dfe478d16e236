from __future__ import annotations

import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.overrides import override, resolve
from nnunet_liver_ext.trainers.protocols import PROTOCOLS, find_protocol
from nnunet_liver_ext.trainers.recipe import Recipe

TRAINERS_RECIPE = Recipe(strategy="one_view", initial_lr=0.5, num_epochs=7, gradient_clip=3.0)

FIRST_EDITIONS = {
    "couteaux2021": {"best_by": "epoch", "num_epochs": 900},
    "yang2017": {"momentum": 0.0},
    "antaros": {"elastic_sd_voxels": 8.0, "num_epochs": 7, "best_by": "moving_average"},
    "hansch2022": {"batch_dice": None, "best_by": "epoch", "num_epochs": 160},
}
"""What version 0.1.0 trained with at first; seven epochs are the trainer's own."""


def plans(**entries) -> dict:
    return {
        "plans_name": "P",
        "configurations": {"3d_fullres": entries, "child": {"inherits_from": "3d_fullres"}},
    }


@pytest.mark.parametrize("name", PROTOCOLS)
def test_its_numbers_are_a_recipes(name: str):
    assert PROTOCOLS[name].name == name
    override(TRAINERS_RECIPE, PROTOCOLS[name].numbers, name)


def test_class_then_protocol_then_plans():
    resolved = resolve(
        TRAINERS_RECIPE, plans(protocol="antaros", recipe={"elastic_points": 6}), "child"
    )
    assert resolved.gradient_clip == 3.0  # of the class
    assert resolved.num_epochs == 7
    assert resolved.initial_lr == 1e-4  # of the protocol
    assert resolved.elastic_sd_voxels == 8.0
    assert resolved.elastic_points == 6  # of the plans


def test_the_nearest_protocol_counts():
    both = plans(protocol="antaros")
    both["configurations"]["child"]["protocol"] = "yang2017"
    resolved = resolve(TRAINERS_RECIPE, both, "child")
    assert resolved.elastic_sd_voxels == 0
    assert resolved.initial_lr == 0.5


@pytest.mark.parametrize("name", PROTOCOLS)
def test_plans_keep_the_numbers_of_their_edition(name: str):
    """Plans from before there were editions name none, and mean the first."""
    protocol = PROTOCOLS[name]
    now = plans(protocol=name, protocol_edition=protocol.edition)
    resolved = resolve(TRAINERS_RECIPE, now, "child").to_json()
    assert {key: resolved[key] for key in protocol.numbers} == dict(protocol.numbers)
    for entry in (plans(protocol=name), plans(protocol=name, protocol_edition=1)):
        first = resolve(TRAINERS_RECIPE, entry, "child").to_json()
        assert {key: first[key] for key in FIRST_EDITIONS[name]} == FIRST_EDITIONS[name]


@pytest.mark.parametrize("edition", [0, 99, "2"])
def test_an_edition_that_does_not_exist_is_an_error(edition):
    with pytest.raises(InputError, match=rf"protocol hansch2022 has no edition {edition!r}"):
        resolve(
            TRAINERS_RECIPE, plans(protocol="hansch2022", protocol_edition=edition), "3d_fullres"
        )


def test_an_unknown_protocol_lists_the_known_ones():
    with pytest.raises(
        InputError,
        match="unknown protocol 'nobody'; known are couteaux2021, yang2017, antaros, hansch2022",
    ):
        resolve(TRAINERS_RECIPE, plans(protocol="nobody"), "3d_fullres")


def test_the_papers_numbers():
    """Couteaux et al. 2021, section 3.1; the Antaros report, section 3.4; Hänsch et al. 2022,
    Methods."""
    couteaux, antaros, hansch = (
        find_protocol(name).numbers for name in ("couteaux2021", "antaros", "hansch2022")
    )
    assert (
        couteaux["initial_lr"],
        couteaux["num_epochs"],
        couteaux["num_iterations_per_epoch"],
    ) == (1e-4, 900, 150)
    assert (antaros["initial_lr"], antaros["momentum"], antaros["elastic_points"] ** 2) == (
        1e-4,
        0.9,
        64,
    )
    assert hansch["num_epochs"] * hansch["num_iterations_per_epoch"] == 80_000
    assert (hansch["contrast_low"], hansch["contrast_high"], hansch["shift_sd"]) == (
        0.75,
        1.25,
        0.25,
    )
    assert (hansch["best_by"], hansch["keep"]) == ("image_jaccard", "best")
    assert hansch["score_images_every"] * hansch["num_iterations_per_epoch"] == 500
    assert antaros["num_epochs"] * antaros["num_iterations_per_epoch"] == 75_000
    assert (antaros["best_by"], antaros["keep"]) == ("image_dice", "best")
    assert antaros["elastic_sd_voxels"] == 0  # E is off in the base network, as are V, R and T
    assert find_protocol("hansch2022").patch_size == (72, 236, 236)


def test_what_differs_from_the_paper_has_a_reason_or_is_the_same():
    for protocol in PROTOCOLS.values():
        assert len({row.what for row in protocol.table}) == len(protocol.table) >= 5
        assert all(row.paper and row.ours for row in protocol.table)
