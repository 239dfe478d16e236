"""Names and shapes, and the first convolution for other channels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nnunet_liver_ext.weights.inflation import inflate
from nnunet_liver_ext.weights.matching import MISSING, WeightMatches, copy_matching_weights


@settings(deadline=None, max_examples=30)
@given(
    there=st.integers(1, 5),
    here=st.integers(1, 9),
    size=st.sampled_from([(3, 3), (1, 3, 3), (3, 3, 3)]),
)
def test_the_response_to_equal_channels_stays(there: int, here: int, size: tuple[int, ...]):
    generator = torch.Generator().manual_seed(there)
    weight = torch.randn(4, there, *size, generator=generator, dtype=torch.float64)
    image = torch.randn(1, 1, *[6] * len(size), generator=generator, dtype=torch.float64)
    convolve = nn.functional.conv2d if len(size) == 2 else nn.functional.conv3d
    before = convolve(image.expand(-1, there, *image.shape[2:]), weight)
    after = convolve(image.expand(-1, here, *image.shape[2:]), inflate(weight, here))
    assert before.abs().max() > 0.1
    torch.testing.assert_close(after, before)


def test_rgb_to_one_and_to_two_channels():
    weight = torch.tensor([[1.0, 2.0, 6.0]])
    assert inflate(weight, 1).tolist() == [[9.0]]
    assert inflate(weight, 2).tolist() == [[4.5, 4.5]]
    assert inflate(weight, 3).tolist() == [[3.0, 3.0, 3.0]]


def test_no_channels_are_refused():
    for weight, channels in ((torch.ones(2, 3), 0), (torch.ones(2, 0, 3), 1), (torch.ones(2), 1)):
        with pytest.raises(ValueError, match=r"no \d input channels"):
            inflate(weight, channels)


class Network(nn.Module):
    """Two convolutions and a head; `again` names the second one once more, as nnU-Net's decoders do
    the encoder."""

    def __init__(self, channels: int = 2, classes: int = 2) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, 4, 3)
        self.second = nn.Conv3d(4, 4, 3, bias=False)
        self.head = nn.Conv3d(4, classes, 1)
        self.again = self.second


def imported(
    network: nn.Module, weights: dict[str, Tensor], sources: dict[str, str] | None = None
) -> WeightMatches:
    return copy_matching_weights(
        network, weights, sources or {name: name for name in network.state_dict()}, ("head.",)
    )


def foreign(**kwargs: int) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {
        name: torch.randn(value.shape) for name, value in Network(**kwargs).state_dict().items()
    }


def test_everything_fits():
    network, weights = Network(), foreign()
    weights["again.weight"] = weights["second.weight"]
    matches = imported(network, weights)
    assert [(match.name, match.outcome) for match in matches.of_network] == [
        ("first.weight", "used"),
        ("first.bias", "used"),
        ("second.weight", "used"),
        ("head.weight", "used"),
        ("head.bias", "used"),
    ]
    assert matches.unused == ()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("kept", ["second.weight", "again.weight"])
def test_one_of_the_names_of_a_shared_weight_is_enough(kept: str):
    network, weights = Network(), foreign()
    dropped = {"second.weight", "again.weight"} - {kept}
    matches = imported(
        network, {name: value for name, value in weights.items() if name not in dropped}
    )
    assert len(matches.imported_weights) == len(matches.of_network) == 5
    assert torch.equal(network.second.weight, weights[kept])


def test_missing_unknown_and_misshapen_weights_leave_the_network_as_it_is():
    network, weights = Network(), foreign()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    del weights["first.bias"]
    weights["second.weight"] = weights["again.weight"] = torch.randn(
        4, 5, 3, 3, 3
    )  # inputs differ, but not of the image
    weights["third.weight"] = torch.randn(3)
    matches = imported(network, weights)
    assert {match.name: match.reason for match in matches.of_network if not match.imported} == {
        "first.bias": MISSING,
        "second.weight": "shape 4x5x3x3x3 in the file, 4x4x3x3x3 here",
    }
    assert [match.name for match in matches.missing_weights] == ["first.bias"]
    assert [match.name for match in matches.misshapen_weights] == ["second.weight"]
    assert matches.unused == ("third.weight",)
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in ("first.bias", "second.weight"))
    assert torch.equal(after["first.weight"], weights["first.weight"])


def test_the_first_convolution_alone_is_inflated():
    network, weights = Network(channels=3), foreign(channels=2)
    matches = imported(network, weights)
    (match,) = [match for match in matches.of_network if match.outcome == "inflated"]
    assert (match.name, match.reason) == ("first.weight", "2 input channels in the file, 3 here")
    torch.testing.assert_close(network.first.weight.sum(1), weights["first.weight"].sum(1))
    assert torch.equal(network.first.weight[:, 0], network.first.weight[:, 2])


def test_a_first_convolution_of_another_width_is_not():
    weights = {**foreign(), "first.weight": torch.randn(5, 1, 3, 3, 3)}
    match = imported(Network(), weights).of_network[0]
    assert (match.outcome, match.reason) == (
        "initialised",
        "shape 5x1x3x3x3 in the file, 4x2x3x3x3 here",
    )


def test_heads_of_other_classes():
    matches = imported(Network(classes=2), foreign(classes=3))
    reasons = {match.name: match.reason for match in matches.misshapen_weights}
    assert reasons == dict.fromkeys(
        ["head.weight", "head.bias"], "a head for 3 classes in the file, for 2 here"
    )


def test_names_are_translated():
    network = Network()
    matches = imported(
        network,
        {"features.0": torch.full((4,), 7.0), "rest": torch.ones(1)},
        {"first.bias": "features.0"},
    )
    assert network.first.bias.tolist() == [7.0] * 4
    assert [match.source for match in matches.imported_weights] == ["features.0"]
    assert matches.unused == ("rest",)


def test_shares_count_numbers_not_weights():
    weights = foreign()
    del weights["first.weight"]
    matches = imported(Network(), weights)
    first, second = 4 * 2 * 27 + 4, 4 * 4 * 27
    assert matches.share(lambda name: not name.startswith("head")) == pytest.approx(
        (4 + second) / (first + second)
    )
    assert matches.share(lambda name: name == "first.weight") == 0
    assert matches.share(lambda name: False) == 0


def test_half_precision_and_integers_take_the_networks_types():
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    weights["0.weight"] = torch.full((2, 1, 1, 1, 1), 0.5, dtype=torch.float16)
    weights["1.num_batches_tracked"] = torch.tensor(5)
    copy_matching_weights(network, weights, {name: name for name in weights}, ())
    assert network[0].weight.dtype == torch.float32
    assert network[0].weight.flatten().tolist() == [0.5, 0.5]
    assert network[1].num_batches_tracked.item() == 5
