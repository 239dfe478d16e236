"""What each strategy does with the plans' network, on nnU-Net's own U-Net and on stubs that reveal
their input."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks.strategies import STRATEGIES, Strategy, select_inputs
from nnunet_liver_ext.pairing import join_logits

PAIRS = sorted(name for name, strategy in STRATEGIES.items() if strategy.is_pair)
NETWORKS = {
    name: 2 if name in ("single_input_specialized", "dual_input_specialized") else 1
    for name in STRATEGIES
}
SIZES = {3: (8, 16, 16), 2: (16, 16)}


def unet(
    inputs: int, outputs: int, *, dims: int = 3, norm: type[nn.Module] | None = None, **norm_kwargs
) -> nn.Module:
    instance_norm = nn.InstanceNorm3d if dims == 3 else nn.InstanceNorm2d
    return PlainConvUNet(
        input_channels=inputs,
        n_stages=3,
        features_per_stage=(4, 8, 8),
        conv_op=nn.Conv3d if dims == 3 else nn.Conv2d,
        kernel_sizes=3,
        strides=(1, 2, 2),
        n_conv_per_stage=1,
        num_classes=outputs,
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op=norm or instance_norm,
        norm_op_kwargs={"affine": True, **norm_kwargs},
        nonlin=nn.LeakyReLU,
        deep_supervision=True,
    )


def build(name: str, num_classes: int = 2, **kwargs) -> Strategy:
    torch.manual_seed(0)
    return STRATEGIES[name].build(
        lambda inputs, outputs: unet(inputs, outputs, **kwargs), 2, num_classes**2
    )


def batch(dims: int = 3, size: int = 2, seed: int = 1) -> Tensor:
    return torch.randn((size, 2, *SIZES[dims]), generator=torch.Generator().manual_seed(seed))


class Echo(nn.Module):
    """Channel i of its answer is i + 1 times input channel i, so the answer tells what was put in
    and where."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = SimpleNamespace(deep_supervision=True)

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = torch.cat(
            [x[:, i : i + 1] * (i + 1) for i in range(x.shape[1])], 1
        ).repeat_interleave(2, 1)
        return [fine, fine[..., ::2]]


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", PAIRS)
def test_shapes(name: str, dims: int, num_classes: int):
    strategy, x = build(name, num_classes, dims=dims), batch(dims)
    assert len(strategy.networks) == NETWORKS[name]
    fine, coarse = SIZES[dims], tuple(n // 2 for n in SIZES[dims])
    with torch.no_grad():
        views = strategy(x)
        assert [[level.shape for level in view] for view in views] == [
            [(2, num_classes, *s) for s in (fine, coarse)]
        ] * 2
        levels = strategy.eval()(x)
        assert [level.shape for level in levels] == [
            (2, num_classes**2, *s) for s in (fine, coarse)
        ]
        strategy.decoder.deep_supervision = False
        assert strategy(x).shape == (2, num_classes**2, *fine)
        assert [view.shape for view in strategy.train()(x)] == [(2, num_classes, *fine)] * 2


@pytest.mark.parametrize("name", PAIRS)
def test_evaluation_joins_the_views(name: str):
    strategy, x = build(name, 3).eval(), batch()
    with torch.no_grad():
        views, joint = strategy.views(x), strategy(x)
    for level, u, v in zip(joint, *views, strict=True):
        torch.testing.assert_close(level.softmax(1), join_logits(u, v).softmax(1))
        torch.testing.assert_close(
            level.exp().sum(1), torch.ones_like(level[:, 0])
        )  # log-probabilities


def test_doubt_about_one_image_survives_float16_beside_certainty_about_the_other():
    """nnU-Net adds up tiles in float16, whose steps are 1 at 2000: plain logits would lose u's
    preference here."""
    strategy = build("single_input").eval()
    u, v = torch.tensor([[0.0, 0.05]]), torch.tensor([[2000.0, -2000.0]])
    joint = strategy.nnunet_logits([u[..., None], v[..., None]]).half()
    assert int(joint.argmax(1)) == 1
    assert int(join_logits(u[..., None], v[..., None]).half().argmax(1)) == 0


def test_one_view_is_the_network_as_it_is():
    strategy, x = STRATEGIES["one_view"].build(unet, 2, 5), batch()
    with torch.no_grad():
        expected = strategy.networks[0](x)
        for found in (strategy(x)[0], strategy.eval()(x)):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert expected[0].shape == (2, 5, 8, 16, 16)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("single_input", [("x1",), ("x2",)]),
        ("single_input_specialized", [("x1",), ("x2",)]),
        ("dual_input", [("x1", "x2"), ("x2", "x1")]),
        ("dual_input_specialized", [("x1", "x2"), ("x2", "x1")]),
    ],
)
def test_what_the_network_sees_for_each_view(name: str, seen: list[tuple[str, ...]]):
    x = batch()
    images = {"x1": x[:, 0:1], "x2": x[:, 1:2]}
    strategy = STRATEGIES[name].build(lambda inputs, outputs: Echo(), 2, 4)
    for view, order in zip(strategy(x), seen, strict=True):
        expected = Echo()(torch.cat([images[image] for image in order], 1))
        assert all(torch.equal(a, b) for a, b in zip(view, expected, strict=True))


def test_dual_output_swaps_cases_at_random_and_swaps_them_back():
    size = 400
    strategy = STRATEGIES["dual_output"].build(lambda inputs, outputs: Echo(), 2, 4)
    x = torch.ones(size, 2, 4)
    x[:, 1] = 10
    torch.manual_seed(0)
    (first, first_coarse), (second, second_coarse) = strategy(x)
    swapped = (
        first[:, 0, 0] == 2
    )  # image 1 went in as the second, and its logits come back as those of image 1
    assert torch.equal(first[:, :, 0], torch.where(swapped, 2.0, 1.0)[:, None].expand(-1, 2))
    assert torch.equal(second[:, :, 0], torch.where(swapped, 10.0, 20.0)[:, None].expand(-1, 2))
    assert torch.equal(first_coarse, first[..., ::2])
    assert torch.equal(second_coarse, second[..., ::2])
    assert abs(int(swapped.sum()) - size / 2) < 4 * (size / 4) ** 0.5


@pytest.mark.parametrize(
    ("name", "training"), [("dual_output", False), ("dual_output_specialized", True)]
)
def test_no_swapping_in_evaluation_nor_when_specialized(name: str, training: bool):
    strategy = STRATEGIES[name].build(lambda inputs, outputs: Echo(), 2, 4).train(training)
    x = torch.ones(50, 2, 4)
    x[:, 1] = 10
    first, second = strategy.views(x)
    assert (first[0] == 1).all()
    assert (second[0] == 20).all()


@pytest.mark.parametrize("name", ["single_input", "dual_input"])
@pytest.mark.parametrize("training", [True, False])
def test_one_batch_of_two_b_equals_two_calls(name: str, training: bool):
    strategy, x = build(name).train(training), batch()
    with torch.no_grad():
        for view, image in zip(
            strategy.views(x), select_inputs(x, strategy.inputs_per_image), strict=True
        ):
            for found, expected in zip(view, strategy.networks[0](image), strict=True):
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tracked", [True, False])
def test_batch_statistics_in_evaluation_do_not_leak_from_one_image_to_the_other(tracked: bool):
    strategy = build("single_input", norm=nn.BatchNorm3d, track_running_stats=tracked).eval()
    assert strategy.mixes_batch is not tracked
    x = batch()
    other = x.clone()
    other[:, 1] = 5 + 3 * other[:, 1]
    with torch.no_grad():
        (u, v), (u_of_other, v_of_other) = strategy.views(x), strategy.views(other)
    assert all(torch.equal(a, b) for a, b in zip(u, u_of_other, strict=True))
    assert not torch.equal(v[0], v_of_other[0])


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_deep_supervision_is_switched_in_all_networks(name: str):
    strategy = build(name)
    for enabled in (False, True):
        strategy.decoder.deep_supervision = enabled
        assert strategy.decoder.deep_supervision is enabled
        assert [network.decoder.deep_supervision for network in strategy.networks] == [
            enabled
        ] * NETWORKS[name]


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_no_pair(name: str):
    for channels in (1, 3):
        with pytest.raises(
            InputError, match=f"needs a pair of images, but the dataset has {channels} channels"
        ):
            STRATEGIES[name].build(unet, channels, 4)
    for labels in (2, 3, 5):
        with pytest.raises(InputError, match=f"{labels} labels are no pair code"):
            STRATEGIES[name].build(unet, 2, labels)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_compiled_gives_the_same(name: str):
    strategy, x = build(name).eval(), batch()
    torch.compiler.reset()
    compiled = torch.compile(strategy, backend="eager")
    with torch.no_grad():
        for found, expected in zip(compiled(x), strategy(x), strict=True):
            torch.testing.assert_close(found, expected)
        strategy.train()
        seeded = []
        for module in (compiled, strategy):
            torch.manual_seed(5)
            seeded.append(module(x))
    for found, expected in zip(*seeded, strict=True):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_bfloat16_stays_finite_and_close(name: str):
    strategy, x = build(name).eval(), batch()
    strategy.decoder.deep_supervision = False
    with torch.no_grad():
        expected = strategy(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = strategy(x)
    assert torch.isfinite(found).all()
    assert (found.float() - expected).abs().mean() < 0.05 * expected.std()
