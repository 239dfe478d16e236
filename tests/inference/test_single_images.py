"""Models of ordinary datasets: one image, perhaps a liver mask beside it. Networks are thresholds
here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from nnunet_liver_ext.dataset_json.conversion import Conversion
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.native_grids import prepare_study
from nnunet_liver_ext.inference.predict import predict_studies
from nnunet_liver_ext.postprocessing.border_lesions import Kernels, postprocess_lesions
from nnunet_liver_ext.space.images import Grid, array, image_like, read_mask, write_image
from nnunet_liver_ext.studies.study import Study

GRID = Grid((30, 28, 10), (1.2, 1.3, 4.0), (5.0, -3.0, 2.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
WIDE = Grid(GRID.size, (1.5, 2.0, 3.0), GRID.origin, GRID.direction)
LIVER, TUMOUR = 100.0, 300.0


class Threshold:
    """Stands for nnU-Net's predictor: the foreground is where the first channel is above a
    value."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.seen: np.ndarray | None = None

    def predict_single_npy_array(
        self, channels: np.ndarray, properties: dict, *_: Any
    ) -> tuple[None, np.ndarray]:
        self.seen = channels
        grid = min((GRID, WIDE), key=lambda g: abs(g.spacing_mm[0] - properties["spacing"][0]))
        assert properties["spacing"] == pytest.approx(grid.spacing_mm)
        inside = (channels[0] > self.value).astype(np.float32)
        return None, np.stack([0.9 - 0.8 * inside, 0.1 + 0.8 * inside])


def model(value: float, name: str, **entries: Any) -> Model:
    dataset_json = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, name: 1},
        "conversion": {
            "layout": "images",
            "modalities": ["MR"],
            "spacing": "native",
            "interpolation": "bspline",
        },
        **entries,
    }
    return Model(
        Threshold(value),  # type: ignore[arg-type]
        dataset_json,
        trainer="nnUNetTrainerLiver",
        configuration="3d_fullres",
        checkpoint="checkpoint_final.pth",
        folds=("0",),
        strategy="one_view",
        weights=name,
        tile_step=0.5,
        mirroring=False,
    )


def tumour_model(**entries: Any) -> Model:
    channels = {
        "channel_names": {"0": "noNorm", "1": "noNorm"},
        "organ_mask": {"name": "liver", "channel": 1},
    }
    return model(TUMOUR / 2, "tumour", **channels, **entries)


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image, its liver, and what is bright: a tumour within, a thin spur at the border,
    something outside."""
    liver = np.zeros(GRID.size[::-1], bool)
    liver[2:8, 5:24, 5:25] = True
    bright = np.zeros_like(liver)
    bright[4:6, 12:17, 12:18] = True
    bright[4, 5:7, 15] = True
    bright[4, 0:3, 0:3] = True
    image = LIVER * liver
    image[bright] = TUMOUR
    return image.astype(np.float32), liver, bright


@pytest.fixture
def study(tmp_path: Path) -> Study:
    image, liver, _ = scene()
    write_image(image_like(image, GRID), tmp_path / "a.nii.gz")
    write_image(image_like(liver, GRID), tmp_path / "a_liver_mask.nii.gz")
    return Study(
        "a", "a", {"MR": tmp_path / "a.nii.gz"}, {"liver": tmp_path / "a_liver_mask.nii.gz"}
    )


def test_the_mask_is_named_as_the_study_and_lies_on_its_grid(study: Study, tmp_path: Path):
    predict_studies(model(LIVER / 2, "liver"), [study], tmp_path / "out", probabilities=True)
    image, liver, bright = scene()
    mask = read_mask(tmp_path / "out" / "a.nii.gz")
    assert np.array_equal(array(mask), liver | bright)
    assert Grid.from_image(mask).matches(GRID)
    assert np.load(tmp_path / "out" / "a.npz")["probabilities"].shape == (2, *image.shape)


def test_lesions_are_restricted_to_the_liver(study: Study, tmp_path: Path):
    tumours = tumour_model()
    predict_studies(tumours, [study], tmp_path / "out")
    image, liver, bright = scene()
    found = array(read_mask(tmp_path / "out" / "a.nii.gz")) > 0
    assert np.array_equal(found, postprocess_lesions(bright, liver))
    assert found[4, 14, 14]
    assert not found[4, 5, 15]
    assert not found[4, 1, 1]
    assert np.array_equal(tumours.predictor.seen, np.stack([image, liver]))  # type: ignore[attr-defined]
    said = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert said["postprocessing"] == ["lesions inside the organ mask, opened at its border"]


def test_the_kernels_of_each_study_are_written_and_stay_when_a_run_goes_on(tmp_path: Path):
    """Voxels of 2 x 1.5 mm: 3 x 3 instead of the 1 x 1 that 3 mm would be rounded to."""
    image, liver, _bright = scene()
    studies = []
    for name, grid in (("a", GRID), ("b", WIDE)):
        write_image(image_like(image, grid), tmp_path / f"{name}.nii.gz")
        write_image(image_like(liver, grid), tmp_path / f"{name}_liver_mask.nii.gz")
        paths = tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_liver_mask.nii.gz"
        studies.append(Study(name, name, {"MR": paths[0]}, {"liver": paths[1]}))
    out = tmp_path / "out"
    for known in (studies[:1], studies):
        predict_studies(tumour_model(), known, out)
    kernels = json.loads((out / "prediction.json").read_text())["lesion_kernels"]
    spacing = GRID.spacing_mm[1:]
    assert kernels == {
        "a": Kernels().at(spacing).describe(spacing),
        "b": {
            "border_voxels": 5,
            "border_mm": [10.0, 7.5],
            "opening_voxels": 3,
            "opening_mm": [6.0, 4.5],
        },
    }
    assert not array(read_mask(out / "b.nii.gz"))[4, 5:7, 15].any()  # the spur
    predict_studies(tumour_model(), studies[:1], out, overwrite=True)
    kept = json.loads((out / "prediction.json").read_text())["lesion_kernels"]
    assert kept == {"a": kernels["a"]}


def test_a_liver_model_finds_the_mask(study: Study, tmp_path: Path):
    alone = Study("a", "a", study.images, {})
    liver_model = model(LIVER / 2, "liver")
    predict_studies(tumour_model(), [alone], tmp_path / "out", organ_model=liver_model)
    _image, liver, bright = scene()
    organ = array(read_mask(tmp_path / "out" / "liver" / "a.nii.gz")) > 0
    assert np.array_equal(
        organ, liver | (bright & (np.indices(bright.shape)[1] > 3))
    )  # its largest piece
    assert (array(read_mask(tmp_path / "out" / "a.nii.gz")) > 0)[4, 14, 14]
    described = json.loads((tmp_path / "out" / "prediction.json").read_text())["organ_found_by"]
    assert described["weights_sha256"] == "liver"


def test_a_tumour_model_without_a_liver_mask_is_one_sentence(study: Study, tmp_path: Path):
    alone = Study("a", "a", study.images, {})
    with pytest.raises(
        SomeCasesFailed,
        match=r"a: has no liver mask, which nnUNetTrainerLiver needs: put .* --liver-model",
    ):
        predict_studies(tumour_model(), [alone], tmp_path / "out")


@pytest.mark.parametrize(
    ("finder", "sentence"),
    [
        (model(1, "spleen"), "has no such class; it has spleen"),
        (
            model(1, "liver", conversion={"layout": "images", "modalities": ["CT"]}),
            "takes CT, but the studies have MR",
        ),
        (tumour_model(labels={"background": 0, "liver": 1}), "needs an organ mask itself"),
    ],
)
def test_a_finder_that_cannot_find(study: Study, tmp_path: Path, finder: Model, sentence: str):
    with pytest.raises(InputError, match=sentence):
        predict_studies(tumour_model(), [study], tmp_path / "out", organ_model=finder)


def test_nothing_to_find(study: Study, tmp_path: Path):
    with pytest.raises(
        InputError, match="needs no organ mask, so there is nothing for a second model to find"
    ):
        predict_studies(model(1, "liver"), [study], tmp_path / "out", organ_model=model(1, "liver"))


def test_intensities_are_those_of_conversion():
    """Percentiles 2 and 98 within the liver go to 0 and 1 (Hänsch et al. 2022)."""
    conversion = {"layout": "images", "modalities": ["MR"], "spacing": "native"}
    conversion["intensities"] = {"kind": "organ", "percentiles": [2, 98]}
    image, liver, _ = scene()
    image += np.random.default_rng(0).normal(0, 10, image.shape).astype(np.float32)
    images = {"MR": image_like(image, GRID), "liver": image_like(liver, GRID)}
    prepared = prepare_study(tumour_model(conversion=conversion), images)
    low, high = np.percentile(image[liver], (2, 98))
    np.testing.assert_allclose(
        prepared.channels[0], (image - low) / (high - low), rtol=1e-5, atol=1e-5
    )
    assert np.array_equal(prepared.channels[1], liver)


def test_a_liver_mask_of_another_grid_is_refused():
    image, liver, _ = scene()
    images = {"MR": image_like(image, GRID), "liver": image_like(liver[:-1], GRID)}
    with pytest.raises(InputError, match="the liver mask is not on the grid of its image"):
        prepare_study(tumour_model(), images)


def test_a_dataset_of_another_tool_has_its_channels_for_images():
    found = Conversion.from_dataset_json({"channel_names": {"0": "CT", "1": "PET"}, "labels": {}})
    assert (found.layout, found.modalities, found.spacing) == ("images", ("CT", "PET"), "native")
    assert found.intensities.kind == "nnunet"
    old = Conversion.from_dataset_json(
        {"preregistered": {"fixed": "T2", "moving": "T1"}, "conversion": {}}
    )
    assert (old.layout, old.modalities, old.channels) == (
        "preregistered",
        ("T1", "T2"),
        ("T2", "T1"),
    )


def test_channels_that_share_a_name_are_told_apart():
    found = Conversion.from_dataset_json(
        {"channel_names": {"0": "noNorm", "1": "noNorm"}, "labels": {}}
    )
    assert found.modalities == ("noNorm_0000", "noNorm_0001")


def test_an_ignore_label_is_no_class():
    assert model(1, "liver", labels={"background": 0, "liver": 1, "ignore": 2}).class_names == (
        "background",
        "liver",
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--image", "a.nii.gz", "-i", "folder"], "either studies"),
        (["-i", "folder", "--liver", "b.nii.gz"], "either studies"),
        ([], "either studies"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(
    arguments: list[str], sentence: str, tmp_path: Path
):
    from nnunet_liver_ext.cli import app

    result = CliRunner().invoke(
        app, ["predict", "-o", str(tmp_path), "-m", str(tmp_path), *arguments]
    )
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.replace("│", " ").split())


def lost(path: Path) -> Path:
    """The file without its scanner coordinates."""
    loaded = nibabel.load(path)
    loaded.set_qform(None, 0)  # type: ignore[attr-defined]
    loaded.set_sform(None, 0)  # type: ignore[attr-defined]
    nibabel.save(loaded, path)
    return path


def test_what_is_strange_about_an_image_is_said_beside_its_mask(tmp_path: Path, capsys):
    write_image(image_like(scene()[0], GRID), tmp_path / "a.nii.gz")
    study = Study("a", "a", {"MR": lost(tmp_path / "a.nii.gz")}, {})
    predict_studies(model(LIVER / 2, "liver"), [study], tmp_path / "out")
    assert read_mask(tmp_path / "out" / "a.nii.gz").GetSize() == GRID.size
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")]
    assert [note.partition(":")[0] for note in notes] == ["note on a", "note on a"]
    assert "the MR image gives no scanner coordinates" in notes[0]
    assert "mm (x y z), no size of an abdomen" in notes[1]


def test_a_constant_image_is_refused(tmp_path: Path):
    write_image(image_like(np.zeros(GRID.size[::-1], np.int16), GRID), tmp_path / "a.nii.gz")
    study = Study("a", "a", {"MR": tmp_path / "a.nii.gz"}, {})
    with pytest.raises(SomeCasesFailed, match=r"a\.nii\.gz: is constant, 0 in every voxel"):
        predict_studies(model(LIVER / 2, "liver"), [study], tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.nii.gz"))
