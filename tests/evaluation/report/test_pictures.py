"""The report's pictures: shapes, sides and positions are those of the patient."""

import base64
import io
import re

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunet_liver_ext.evaluation.files.case_files import ONLY_RATER, CaseFiles
from nnunet_liver_ext.evaluation.files.find_label_maps import ImageKey
from nnunet_liver_ext.evaluation.files.read_label_map import LabelMap
from nnunet_liver_ext.evaluation.report.pictures.case_picture import (
    LARGE,
    SMALL,
    draw_cropped_case,
    draw_picture,
)
from nnunet_liver_ext.evaluation.report.pictures.cropped_case import CroppedCase, read_cropped_case
from nnunet_liver_ext.evaluation.report.pictures.outlines import (
    TOLERANCE,
    UNITS,
    svg_path,
    trace_outlines,
)
from nnunet_liver_ext.evaluation.report.pictures.picture_plan import (
    LARGE_UP_TO,
    SMALL_UP_TO,
    PicturePlan,
    draw_pictures,
    plan_pictures,
)
from nnunet_liver_ext.evaluation.report.pictures.slice_layout import lay_out_slices
from nnunet_liver_ext.space.images import Grid, image_like, write_image
from tests.evaluation.conftest import GRID, block

SPACING_MM = (5.0, 1.0, 2.0)
SQUARE = np.zeros((6, 8), bool)
SQUARE[2:4, 3:6] = True


def path_of(mask, left, top, pixels_per_voxel):
    return svg_path(trace_outlines(mask, left, top, pixels_per_voxel))


def ball(shape=(40, 200, 100), centre_mm=(100, 100, 100), radius_mm=50):
    axes = np.meshgrid(
        *[np.arange(n) * s for n, s in zip(shape, SPACING_MM, strict=True)], indexing="ij"
    )
    return (
        sum((axis - centre) ** 2 for axis, centre in zip(axes, centre_mm, strict=True))
        < radius_mm**2
    )


def scene(pred, ref, image=None, spacing_mm=SPACING_MM):
    return CroppedCase(pred.astype(np.int32), ref.astype(np.int32), image, spacing_mm)


def polygons(path: str) -> list[np.ndarray]:
    """Each closed line of a path in pixels, (N, 2), x and y."""
    found = []
    for part in re.findall(r"M[^z]*z", path):
        start, steps = part[1:-1].split("l")
        numbers = [int(number) for number in re.findall(r"-?\d+", steps)]
        points = np.cumsum(
            [[int(number) for number in start.split()], *np.reshape(numbers, (-1, 2)).tolist()],
            axis=0,
        )
        found.append(points / UNITS)
    return found


def area(points: np.ndarray) -> float:
    """Signed, by the shoelace formula."""
    x, y = points.T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2)


def grey(picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.image))).convert("L"), int)


def case_files(tmp_path, pred, ref, image=None, grid=GRID, name="P001"):
    paths = {}
    for what, values in {"pred": pred, "ref": ref, "image": image}.items():
        if values is not None:
            paths[what] = tmp_path / f"{name}_{what}.nii.gz"
            write_image(image_like(values, grid), paths[what])
    references = {ONLY_RATER: LabelMap(paths["ref"])}
    return CaseFiles(
        ImageKey(name, "T1"), LabelMap(paths["pred"]), references, name, paths.get("image")
    )


# --- outlines


def test_an_outline_is_where_the_mask_is():
    (points,) = polygons(path_of(SQUARE, left=100, top=200, pixels_per_voxel=(10, 20)))
    assert points.min(axis=0) == pytest.approx([100 + 3 * 20, 200 + 2 * 10], abs=0.1)
    assert points.max(axis=0) == pytest.approx([100 + 6 * 20, 200 + 4 * 10], abs=0.1)
    corners = 4 * (10 * 20) / 8  # are cut off in the middle of their edges
    assert abs(area(points)) == pytest.approx(6 * 10 * 20 - corners)


def test_a_hole_is_wound_the_other_way_round():
    ring = np.pad(np.ones((10, 10), bool), 2)
    ring[5:9, 5:9] = False
    outer, inner = sorted(
        (area(points) for points in polygons(path_of(ring, 0, 0, (4, 4)))), key=abs, reverse=True
    )
    assert outer * inner < 0
    assert abs(outer) == pytest.approx(100 * 16, rel=0.02)
    assert abs(inner) == pytest.approx(16 * 16, rel=0.05)


def test_an_empty_mask_has_no_outline():
    assert path_of(SQUARE & False, 0, 0, (1, 1)) == ""


def test_a_mask_at_the_border_is_closed():
    (points,) = polygons(path_of(np.ones((3, 3), bool), 0, 0, (10, 10)))
    assert points.min(axis=0) == pytest.approx([0, 0], abs=0.1)
    assert points.max(axis=0) == pytest.approx([30, 30], abs=0.1)


def test_a_shortened_outline_is_nowhere_farther_than_its_tolerance():
    y, x = np.mgrid[:200, :200]
    disc = (x - 100) ** 2 + (y - 100) ** 2 < 80**2
    (points,) = polygons(path_of(disc, 0, 0, (1, 1)))
    assert len(points) < 70
    assert area(points) == pytest.approx(np.sign(area(points)) * disc.sum(), rel=0.01)
    radii = np.hypot(*(points - 100.5).T)
    assert np.abs(radii - 80).max() < 1 + TOLERANCE


# --- planes and slices


def test_a_ball_of_anisotropic_voxels_is_round_and_equally_large_in_all_planes():
    picture = draw_cropped_case(scene(ball() & False, ball()), None)
    planes = polygons(picture.ref)[:3]
    expected = 100 * (picture.width - 4) / 600
    for points in planes:
        assert np.ptp(points, axis=0) == pytest.approx([expected, expected], abs=0.05 * expected)
    assert picture.pred == ""
    assert not picture.has_image


def test_head_is_up_and_the_patients_right_is_left():
    """A ball with something on its patient's left side, towards the head, in front."""
    ref = ball()
    ref[30:32, 40:60, 80:90] = True
    layout = lay_out_slices(scene(ref, ref), LARGE)
    axial, coronal, sagittal = layout.slices[:3]
    assert [view.title for view in layout.slices[:3]] == ["axial", "coronal", "sagittal"]
    mark = np.zeros(ref.shape, bool)
    mark[39], mark[:, 0], mark[:, :, 99] = True, True, True
    assert coronal.cut(mark)[0].all()  # the highest slice is on top
    assert axial.cut(mark)[0].all()  # the front is on top
    assert axial.cut(mark)[:, -1].all()  # the patient's left is on the right
    assert sagittal.cut(mark)[:, 0].all()  # the front is on the left


def test_the_montage_goes_from_head_to_feet_and_says_the_distance():
    layout = lay_out_slices(scene(ball(), ball()), LARGE)
    indices = [view.index for view in layout.slices[3:]]
    assert len(indices) == 12
    assert indices == sorted(indices, reverse=True)
    assert all(ball()[index].any() for index in indices)
    assert layout.slices[3].title == f"+{(indices[0] - 20) * 5} mm"
    assert layout.slices[-1].title.startswith("−")


def test_few_slices_are_shown_once_each():
    ref = np.zeros((3, 20, 20), bool)
    ref[:2, 5:15, 5:15] = True
    views = lay_out_slices(scene(ref, ref), LARGE).slices
    assert [view.index for view in views[3:]] == [1, 0]


def test_no_slice_is_drawn_over_another_one_or_beyond_the_picture():
    for size in (LARGE, SMALL):
        layout = lay_out_slices(scene(ball(), ball()), size)
        taken = np.zeros((layout.height, layout.width), int)
        for view in layout.slices:
            left, top, width, height = view.pixel_box(SPACING_MM)
            assert left + width <= layout.width + 1
            assert top + height <= layout.height + 1
            taken[top : top + height, left : left + width] += 1
        assert taken.max() == 1


def test_the_image_is_where_its_outline_is():
    ref = ball()
    picture = draw_cropped_case(scene(ref, ref, ref.astype(np.float32) * 100), None)
    bright = grey(picture) > 128
    points = polygons(picture.ref)[0]
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    rows, columns = np.nonzero(bright[: round(bottom) + 5, : picture.width // 3 - 4])
    assert (columns.min(), columns.max()) == (
        pytest.approx(left, abs=3),
        pytest.approx(right, abs=3),
    )
    assert (rows.min(), rows.max()) == (pytest.approx(top, abs=3), pytest.approx(bottom, abs=3))


def test_the_picture_does_not_depend_on_how_the_file_stores_its_axes(tmp_path):
    """The same patient stored along LPS and along RAS, with something that is on one side only."""
    ref = ball()
    ref[:, :60] = False
    ref[30:, :, :40] = True
    grid = Grid((100, 200, 40), (2.0, 1.0, 5.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    pictures = []
    for axes in ("LPS", "RAS", "PIR"):
        stored = sitk.DICOMOrient(image_like(ref, grid), axes)
        image = sitk.DICOMOrient(
            image_like(ref.astype(np.float32) * 50 + np.arange(100, dtype=np.float32), grid), axes
        )
        paths = tmp_path / f"{axes}_mask.nii.gz", tmp_path / f"{axes}.nii.gz"
        write_image(stored, paths[0])
        write_image(image, paths[1])
        label_map = LabelMap(paths[0])
        pictures.append(
            draw_picture(
                CaseFiles(
                    ImageKey("P001", "T1"), label_map, {ONLY_RATER: label_map}, "P001", paths[1]
                ),
                None,
            )
        )
    assert pictures[0] == pictures[1] == pictures[2]


# --- classes and raters


def test_each_class_has_its_outline_and_a_mix_up_is_marked(tmp_path):
    ref = block(label=1)
    ref[3:5, 4:6, 6:8] = 2
    pred = np.where(ref == 2, 1, ref)
    one = case_files(tmp_path, pred.astype(np.uint8), ref)
    by_label = draw_picture(one, None)
    assert by_label.mixed_up
    regions = draw_picture(one, {"liver": (1, 2), "lesion": (2,)})
    assert len(polygons(regions.ref)) > len(polygons(regions.pred))
    whole = [abs(area(points)) for points in polygons(regions.pred)]
    assert max(abs(area(points)) for points in polygons(regions.ref)) == max(whole)
    assert not draw_picture(case_files(tmp_path, ref, ref), None).mixed_up


def test_labels_that_no_class_names_are_not_drawn(tmp_path):
    labels = block()
    labels[7, 15:18, 15:20] = 9
    assert draw_picture(case_files(tmp_path, labels, labels), {"liver": (1,)}) == draw_picture(
        case_files(tmp_path, block(), block()), {"liver": (1,)}
    )


def test_further_raters_have_outlines_of_their_own(tmp_path):
    one = case_files(tmp_path, block(), block())
    second = tmp_path / "second.nii.gz"
    write_image(image_like(block(2), GRID), second)
    two = CaseFiles(one.key, one.prediction, {"a": one.reference, "b": LabelMap(second)}, "P001")
    picture = draw_picture(two, None)
    assert picture.ref == picture.pred
    assert picture.other_refs
    assert picture.other_refs != picture.ref


def test_an_empty_case_can_be_drawn(tmp_path):
    picture = draw_picture(case_files(tmp_path, block() * 0, block() * 0), None)
    assert (picture.ref, picture.pred, picture.mixed_up) == ("", "", "")
    assert np.median(grey(picture)) == pytest.approx(64, abs=4)


def test_a_scene_is_cut_to_the_surroundings(tmp_path):
    ref = np.zeros((20, 100, 120), np.uint8)
    ref[9:11, 50:52, 60:62] = 1
    grid = Grid((120, 100, 20), (2.0, 2.0, 5.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    found = read_cropped_case(case_files(tmp_path, ref, ref, grid=grid), None)
    assert found.ref.shape == (
        2 + 2 * 7,
        2 + 2 * 18,
        2 + 2 * 18,
    )  # 35 mm on all sides, in whole voxels
    assert found.ref.sum() == 8


def test_a_prediction_that_was_moved_is_outlined_where_it_is(tmp_path):
    picture = draw_picture(case_files(tmp_path, block(2), block()), None)
    (ref, *_), (pred, *_) = polygons(picture.ref), polygons(picture.pred)
    assert pred[:, 0].mean() > ref[:, 0].mean()  # moved to the patient's left


# --- budget


def many(number):
    return [CaseFiles(ImageKey(f"P{n:03d}", "T1"), LabelMap(None), {}, "") for n in range(number)]


def test_few_images_have_large_pictures_and_more_of_them_small_ones():
    few, more = (
        plan_pictures(many(LARGE_UP_TO), (), ()),
        plan_pictures(many(LARGE_UP_TO + 1), (), ()),
    )
    assert (few.size, few.note, len(few.cases)) == (LARGE, "", LARGE_UP_TO)
    assert (more.size, len(more.cases)) == (SMALL, LARGE_UP_TO + 1)
    assert "small" in more.note


def test_of_many_images_those_that_matter_have_pictures_and_the_page_says_so():
    images = many(SMALL_UP_TO + 1)
    keys = [image.key for image in images]
    plan = plan_pictures(images, keys[:3], keys[:50])
    assert [one.key for one in plan.cases] == keys[:50]
    assert plan.size == LARGE
    assert f"pictures of 50 of the {SMALL_UP_TO + 1} images" in plan.note
    crowded = plan_pictures(many(3 * SMALL_UP_TO), keys[-3:], keys)
    assert len(crowded.cases) == SMALL_UP_TO
    assert set(keys[-3:]) <= {one.key for one in crowded.cases}
    assert crowded.size == SMALL
    assert "1 more flagged images have none" in crowded.note


def test_small_pictures_are_small(tmp_path):
    noise = np.random.default_rng(0).normal(100, 20, block().shape).astype(np.float32)
    one = case_files(tmp_path, block(1), block(), noise)
    large, small = draw_picture(one, None, LARGE), draw_picture(one, None, SMALL)
    assert len(small.image) < 0.8 * len(large.image)


def test_several_processes_draw_the_same_and_a_damaged_image_costs_only_its_picture(tmp_path):
    images = [
        case_files(tmp_path, block(n), block(), block().astype(np.float32), name=f"P{n}")
        for n in range(3)
    ]
    images[1].image.write_bytes(b"no image")
    plan = PicturePlan(images, LARGE, "")
    one, two = draw_pictures(plan, None, processes=1), draw_pictures(plan, None, processes=2)
    assert one == two
    assert sorted(one) == [image.key for image in images]
    assert one[images[1].key].startswith("P1_image.nii.gz: cannot be read")
