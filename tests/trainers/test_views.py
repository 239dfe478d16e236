"""What objectives see of a batch: the centre of a patch, annotated cases, voxels that count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nnunet_liver_ext.pairing import PairLabels, encode_pair
from nnunet_liver_ext.trainers.objectives.views import (
    NOT_COUNTED,
    Annotations,
    concatenate_views,
    crop_centre,
    dilate_mask,
    make_views,
)
from nnunet_liver_ext.trainers.scores import hard_counts, region_counts

PAIR = PairLabels(("T1", "T2"), ("background", "liver"))
GENERATOR = torch.Generator().manual_seed(0)


def labels(*shape: int, classes: int = 2) -> torch.Tensor:
    return torch.randint(0, classes, shape, generator=GENERATOR)


def test_unpadded_networks_are_compared_with_the_centre():
    data, target = torch.randn(2, 1, 8, 12, 12, generator=GENERATOR), labels(2, 1, 8, 12, 12)
    logits = torch.randn(2, 2, 4, 6, 6, generator=GENERATOR)
    (view,) = make_views(None, data, [logits], target, joint=False)
    assert torch.equal(view.labels, target[:, :, 2:6, 3:9, 3:9])
    assert torch.equal(view.image, data[:, :, 2:6, 3:9, 3:9])
    assert view.logits is logits


def test_the_centre_of_the_papers_tile():
    margin = np.indices((72, 236, 236))[:, 20:52, 92:144, 92:144]
    index = torch.arange(72 * 236 * 236).view(1, 1, 72, 236, 236)
    expected = torch.from_numpy(np.ravel_multi_index(tuple(margin), (72, 236, 236)))
    assert torch.equal(crop_centre(index, (32, 52, 52))[0, 0], expected)


@pytest.mark.parametrize("radii", [(0, 2, 3), (1, 1, 0)])
def test_dilation_equals_scipys(radii: tuple[int, int, int]):
    mask = labels(1, 1, 7, 20, 20) * labels(1, 1, 7, 20, 20) * labels(1, 1, 7, 20, 20) > 0
    expected = ndimage.binary_dilation(
        mask[0, 0].numpy(), np.ones([2 * r + 1 for r in radii], bool)
    )
    assert np.array_equal(dilate_mask(mask, radii)[0, 0].numpy(), expected)
    assert expected.any()
    assert not expected.all()


def test_only_the_dilated_organ_counts():
    organ = torch.zeros(1, 1, 4, 9, 9, dtype=torch.long)
    organ[:, :, :, 4, 4] = 1
    tumour = labels(1, 1, 4, 9, 9)
    target = torch.cat([tumour, organ], 1)
    (view,) = make_views(
        None,
        tumour,
        [None],
        target,
        joint=False,
        annotations=Annotations(organ=True, organ_dilation=(0, 1, 2)),
    )
    counted = torch.zeros_like(tumour, dtype=torch.bool)
    counted[:, :, :, 3:6, 2:7] = True
    assert torch.equal(view.labels == NOT_COUNTED, ~counted)
    assert torch.equal(view.labels[counted], tumour[counted])
    (everywhere,) = make_views(
        None, tumour, [None], target, joint=False, annotations=Annotations(organ=True)
    )
    assert torch.equal(everywhere.labels, tumour)
    (regions,) = make_views(None, tumour, [None], target, joint=False)
    assert torch.equal(regions.labels, target)


def test_the_radius_shrinks_with_the_resolution():
    full = torch.zeros(1, 2, 4, 16, 16, dtype=torch.long)
    full[:, 1, :, 8, 8] = 1
    half = torch.zeros(1, 2, 4, 8, 8, dtype=torch.long)
    half[:, 1, :, 4, 4] = 1
    levels = [torch.randn(1, 2, 4, n, n) for n in (16, 8)]
    dilation = Annotations(organ=True, organ_dilation=(0, 4, 4))
    (view,) = make_views(
        None, full[:, :1].float(), [levels], [full, half], joint=False, annotations=dilation
    )
    assert [int((level != NOT_COUNTED).sum()) for level in view.target] == [4 * 9 * 9, 4 * 5 * 5]


def test_cases_without_a_mask_are_left_out_of_its_view():
    first, second = labels(3, 1, 4, 4, 4), labels(3, 1, 4, 4, 4)
    data = torch.randn(3, 2, 4, 4, 4, generator=GENERATOR)
    u, v = torch.randn(2, 3, 2, 4, 4, 4, generator=GENERATOR)
    annotations = Annotations(of_images=[[True, True, False], [False, True, True]])
    code = encode_pair(first, second)
    one, two = make_views(PAIR, data, [u, v], code, joint=False, annotations=annotations)
    assert torch.equal(one.logits, u[:2])
    assert torch.equal(two.logits, v[1:])
    assert torch.equal(one.labels, first[:2])
    assert torch.equal(two.labels, second[1:])
    assert torch.equal(one.image, data[:2, :1])
    assert torch.equal(two.image, data[1:, 1:])
    (only,) = make_views(
        PAIR,
        data,
        [u, v],
        code,
        joint=False,
        annotations=Annotations(of_images=[[False] * 3, [True] * 3]),
    )
    assert only.name == "T2"
    assert only.logits is v


def test_several_batches_as_one():
    batches = []
    for _ in range(2):
        data, code = torch.randn(2, 2, 4, 4, generator=GENERATOR), labels(2, 1, 4, 4, classes=4)
        logits = [[torch.randn(2, 2, n, n, generator=GENERATOR) for n in (4, 2)] for _ in range(2)]
        batches.append(make_views(PAIR, data, logits, [code, code[..., ::2, ::2]], joint=False))
    one, two = concatenate_views(batches)
    assert (one.name, two.name) == ("T1", "T2")
    assert [level.shape for level in one.logits] == [(4, 2, 4, 4), (4, 2, 2, 2)]
    assert torch.equal(two.target[1], torch.cat([batch[1].target[1] for batch in batches]))


def test_uncounted_voxels_are_no_errors():
    logits = torch.tensor([[[0.0, 0, 1, 1, 1], [1, 1, 0, 0, 0]]])  # predicted 1 1 0 0 0
    target = torch.tensor([[[1, NOT_COUNTED, 1, NOT_COUNTED, 0]]])
    assert hard_counts(logits, target).tolist() == [[1], [0], [1]]
    assert hard_counts(logits, torch.tensor([[[1, 0, 2, 2, 0]]]), ignored=2).tolist() == [
        [1],
        [1],
        [0],
    ]


def test_counts_of_regions_equal_nnunets():
    from nnunetv2.training.loss.dice import get_tp_fp_fn_tn

    logits, target = torch.randn(2, 3, 4, 5, 6, generator=GENERATOR), labels(2, 4, 4, 5, 6)
    hard = (logits > 0).long()
    expected = get_tp_fp_fn_tn(hard, target[:, :3], axes=[0, 2, 3, 4])[:3]
    np.testing.assert_array_equal(
        region_counts(logits, target[:, :3]), torch.stack(expected).numpy()
    )
    expected = get_tp_fp_fn_tn(hard, target[:, :3], axes=[0, 2, 3, 4], mask=1 - target[:, -1:])[:3]
    np.testing.assert_array_equal(
        region_counts(logits, target, ignored=True), torch.stack(expected).numpy()
    )
