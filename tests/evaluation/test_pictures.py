"""The report's pictures: shapes, sides and positions are those of the patient."""

import io

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunet_liver_ext.evaluation.box_plots import BOTTOM, HEIGHT, TOP, box_plots
from nnunet_liver_ext.evaluation.cases import Comparison
from nnunet_liver_ext.evaluation.label_maps import Key, LabelMap
from nnunet_liver_ext.evaluation.measures import METRICS
from nnunet_liver_ext.evaluation.overlays import Scene, draw, overlay_png
from nnunet_liver_ext.images import Grid, image_like, write_image

SPACING_MM = (5.0, 1.0, 2.0)


def ball(shape=(40, 200, 100), centre_mm=(100, 100, 100), radius_mm=50):
    axes = np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, SPACING_MM, strict=True)], indexing="ij")
    return sum((axis - centre) ** 2 for axis, centre in zip(axes, centre_mm, strict=True)) < radius_mm**2


def red(png: bytes) -> np.ndarray:
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), int)
    return np.abs(picture - (255, 77, 77)).sum(-1) < 60


def extents(mask: np.ndarray) -> tuple[int, int]:
    rows, columns = np.nonzero(mask)
    return int(np.ptp(rows)), int(np.ptp(columns))


def test_a_ball_of_anisotropic_voxels_is_round_and_equally_large_in_all_planes():
    labels = ball().astype(np.int32)
    centre = (20, 100, 50)
    outline = red(draw(Scene(np.zeros_like(labels), labels, None, SPACING_MM, centre)))
    planes = np.array_split(outline, 3, axis=1)  # 200 mm each
    sizes = [extent for plane in planes for extent in extents(plane)]
    expected = outline.shape[1] / 600 * 100
    assert sizes == pytest.approx([expected] * 6, abs=0.05 * expected)


def test_the_picture_does_not_depend_on_how_the_file_stores_its_axes(tmp_path):
    """The same patient stored along LPS and along RAS, with something that is on one side only."""
    ref = ball()
    ref[:, :60] = False
    ref[30:, :, :40] = True
    grid = Grid((100, 200, 40), (2.0, 1.0, 5.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    pictures = []
    for axes in ("LPS", "RAS", "PIR"):
        stored = sitk.DICOMOrient(image_like(ref, grid), axes)
        image = sitk.DICOMOrient(image_like(ref.astype(np.float32) * 50 + np.arange(100, dtype=np.float32), grid), axes)
        paths = tmp_path / f"{axes}_mask.nii.gz", tmp_path / f"{axes}.nii.gz"
        write_image(stored, paths[0])
        write_image(image, paths[1])
        label_map = LabelMap(paths[0])
        pictures.append(overlay_png(Comparison(Key("P001", "T1"), label_map, label_map, paths[1]), None))
    assert pictures[0] == pictures[1] == pictures[2]


def test_an_empty_case_can_be_drawn(tmp_path):
    grid = Grid((20, 20, 10), (2.0, 2.0, 5.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    write_image(grid.empty_image(), tmp_path / "empty.nii.gz")
    label_map = LabelMap(tmp_path / "empty.nii.gz")
    assert not red(overlay_png(Comparison(Key("P001", "T1"), label_map, label_map), None)).any()


def table(values, metric="hd95"):
    rows = [(f"P{n}", "T1", "liver", name, value, "mm") for name in METRICS for n, value in enumerate(values)]
    frame = pd.DataFrame(rows, columns=["case", "modality", "class", "metric", "value", "unit"])
    return next(plot for plot in box_plots(frame) if plot.metric.name == metric)


def test_quartiles_whiskers_and_outliers_are_where_they_belong():
    plot = table([0, 1, 2, 3, 4, 5, 6, 7, 20.0])
    ticks = {text: y for y, text in plot.ticks}
    low, high = HEIGHT - BOTTOM, TOP
    assert (ticks["0"], ticks["20"]) == (low, high)

    def value(y):
        return (low - y) / (low - high) * 20

    (box,) = plot.boxes
    assert [value(y) for y in box.five] == pytest.approx([0, 2, 4, 6, 7], abs=0.01)
    assert [value(point.y) for point in box.points] == pytest.approx([0, 1, 2, 3, 4, 5, 6, 7, 20], abs=0.01)
    assert box.points[8].text == "P8: 20.0"


def test_infinite_values_are_above_the_frame_and_in_no_quartile():
    finite, plot = table([1, 2, 3.0]), table([1, 2, 3.0, np.inf])
    assert plot.boxes[0].five == finite.boxes[0].five
    assert not plot.boxes[0].points[3].finite
    assert plot.boxes[0].points[3].y < TOP
    assert table([np.inf]).boxes[0].five is None


@pytest.mark.parametrize("value", [0.0, 1.0, 250.0, -3.0])
def test_equal_values_have_a_scale_too(value):
    plot = table([value, value])
    assert len(plot.ticks) > 1
    assert all(TOP - 1 <= point.y <= HEIGHT - BOTTOM + 1 for point in plot.boxes[0].points)
    assert all(y < HEIGHT for y in table([min(value, 1.0)] * 2, "dice").boxes[0].five)
