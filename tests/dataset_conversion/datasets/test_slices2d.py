"""2D slices: PNG of every kind and NIfTI of one slice, classes by values and colours, patients by
names."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from nnunet_liver_ext.dataset_conversion.datasets.slices2d import pixel_size, slices2d_studies
from nnunet_liver_ext.dataset_conversion.datasets.slices2d_files import SlicePlace, guess_patient
from nnunet_liver_ext.dataset_conversion.label_options import parse_label_options
from nnunet_liver_ext.dataset_conversion.single_slice_files import (
    read_png,
    read_single_slice_image,
    read_single_slice_mask,
    single_slice_grid,
)
from nnunet_liver_ext.dataset_conversion.single_slice_reader import SingleSliceReader
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, array, image_like, write_image
from tests.dataset_conversion.datasets.conversion import convert
from tests.dataset_conversion.datasets.mr_conversion import case_of, dataset_json, voxels, written

SIZE = (9, 6)
"""Columns, rows."""
LABELS = np.zeros((6, 9), np.uint8)
LABELS[1:4, 2:5], LABELS[4, 6:9] = 1, 2


def grey(seed: int, bits: int = 8) -> np.ndarray:
    kind = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2**bits, SIZE[::-1]).astype(kind)


def save(values: np.ndarray, path: Path, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def colour(labels: np.ndarray, *colours: int) -> np.ndarray:
    """Label n in the n-th colour 0xrrggbb, on black."""
    table = np.array([0, *colours])
    codes = table[labels]
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)


@pytest.fixture
def pngs(tmp_path: Path) -> Path:
    """images/ and labels/ with two slices of anna and one of ben, 16 bits, and what macOS leaves
    behind."""
    root = tmp_path / "slices"
    for seed, name in enumerate(("anna_1", "anna_2", "ben_1")):
        save(grey(seed, 16), root / "images" / f"{name}.png")
        save(
            LABELS * (seed < 2) + (LABELS == 1) * np.uint8(seed == 2),
            root / "labels" / f"{name}.png",
        )
    for junk in ("__MACOSX/images/x.png", "images/._anna_1.png", ".DS_Store"):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_bytes(b"junk")
    return root


def test_slices_become_volumes_of_one_slice(pngs: Path, raw: Path):
    folder = convert("slices2d", pngs, label=("liver=1", "spleen=2"), pixel_spacing="0.8,0.7")
    content = dataset_json(folder)
    assert content["channel_names"] == {"0": "CT"}
    assert content["labels"] == {"background": 0, "liver": 1, "spleen": 2}
    case = case_of(folder, "anna", "anna_2")
    np.testing.assert_array_equal(voxels(folder, case, 0), grey(1, 16)[None])
    np.testing.assert_array_equal(voxels(folder, case), LABELS[None])
    for channel in (0, None):
        image = written(folder, case, channel)
        assert Grid.from_image(image).matches(
            Grid((9, 6, 1), (0.8, 0.7, 999.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
        )
    splits = json.loads((folder / "splits_final.json").read_text())
    assert {tuple(sorted(fold["val"])) for fold in splits} == {("P001_S1", "P001_S2"), ("P002_S1",)}


def test_another_pixel_size_is_another_dataset(pngs: Path, raw: Path):
    options = {"label": ("liver=1", "spleen=2")}
    folder = convert("slices2d", pngs, **options)
    assert Manifest.load(folder).settings["reading"] == {"pixel-spacing": [1.0, 1.0, 999.0]}
    for add in (False, True):
        with pytest.raises(
            InputError, match="converted with another --pixel-spacing; use the same"
        ):
            convert("slices2d", pngs, pixel_spacing="0.8,0.8", add=add, **options)
    convert("slices2d", pngs, pixel_spacing="1.0, 1", **options)  # written otherwise, but the same


def test_masks_beside_their_images(tmp_path: Path, raw: Path):
    for name in ("anna-slice07", "ben-slice09"):
        save(grey(1), tmp_path / "set" / "abdomen" / f"{name}.png")
        save(LABELS, tmp_path / "set" / "abdomen" / f"{name}_mask.png")
    folder = convert("slices2d", tmp_path / "set", label=("all=1+2",), modality="MR")
    assert dataset_json(folder)["channel_names"] == {"0": "MR"}
    np.testing.assert_array_equal(
        voxels(folder, case_of(folder, "ben", "ben-slice09"))[0], LABELS > 0
    )


def test_folders_of_patients_and_slices_without_masks(tmp_path: Path):
    for name in ("anna/1", "anna/2", "ben/left/1", "0012"):
        save(grey(1), tmp_path / "images" / f"{name}.png")
    save(LABELS, tmp_path / "masks" / "anna" / "2_mask.png")
    studies = slices2d_studies(tmp_path, modality="MR")
    assert [(study.patient, study.study) for study in studies] == [
        ("0012", "0012"),
        ("anna", "1"),
        ("anna", "2"),
        ("ben", "left-1"),
    ]
    assert [study.masks for study in studies] == [
        {},
        {},
        {"MR": tmp_path / "masks" / "anna" / "2_mask.png"},
        {},
    ]


@pytest.mark.parametrize(
    ("below", "name", "patient"),
    [
        ((), "anna_12", "anna"),
        ((), "anna-slice013", "anna"),
        ((), "case_12_3", "case_12"),
        ((), "p01_s03", "p01"),
        ((), "0012", "0012"),
        (("ben",), "anna_12", "ben"),
        (("train",), "anna_12", "anna"),
        (("train", "ben"), "7", "ben"),
    ],
)
def test_whose_slice_it_is(below: tuple[str, ...], name: str, patient: str):
    assert guess_patient(SlicePlace("set", below, name)) == patient


def test_a_csv_says_whose_slices_they_are(pngs: Path, tmp_path: Path):
    csv = tmp_path / "patients.csv"
    csv.write_text("name,patient\nanna_1,P1\nanna_2,P2\nben_1,P1\n")
    assert [study.patient for study in slices2d_studies(pngs, patients=csv)] == ["P1", "P2", "P1"]
    csv.write_text("name,patient\nanna_1,P1\n")
    with pytest.raises(InputError, match=r"patients\.csv: does not say whose slice anna_2 is"):
        slices2d_studies(pngs, patients=csv)
    csv.write_text("slice,patient\nanna_1,P1\n")
    with pytest.raises(InputError, match="needs the columns name, patient, found slice, patient"):
        slices2d_studies(pngs, patients=csv)


def test_slices_that_cannot_be_told_apart_are_refused(tmp_path: Path):
    for name in ("slice_1", "slice_2"):
        save(grey(1), tmp_path / "images" / f"{name}.png")
    with pytest.raises(
        InputError, match="all 2 slices seem to be of one patient, slice; say with --patients"
    ):
        slices2d_studies(tmp_path)
    save(grey(1), tmp_path / "more" / "slice_1.png")
    with pytest.raises(InputError, match="2 slices of patient slice are named slice_1"):
        slices2d_studies(tmp_path)
    save(LABELS, tmp_path / "masks" / "slice_3.png")
    with pytest.raises(InputError, match=r"slice_3\.png: is a mask, but there is no image slice_3"):
        slices2d_studies(tmp_path)
    save(LABELS, tmp_path / "labels" / "slice_3.png")
    with pytest.raises(InputError, match="is a second mask slice_3"):
        slices2d_studies(tmp_path)
    with pytest.raises(InputError, match="holds no slices"):
        slices2d_studies(tmp_path / "masks" / "nothing")


# ---------------------------------------------------------------------- PNG files


def test_grey_values_are_those_of_the_file(tmp_path: Path):
    for bits in (8, 16):
        np.testing.assert_array_equal(
            read_png(save(grey(bits, bits), tmp_path / f"{bits}.png")).grey, grey(bits, bits)
        )
    one = read_png(save(LABELS == 1, tmp_path / "1.png"))
    np.testing.assert_array_equal(one.grey, LABELS == 1)
    assert one.grey.dtype == np.uint8


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_not_stretched(tmp_path: Path, bits: int):
    path = tmp_path / "few.png"
    path.write_bytes(packed_grey(LABELS, bits))
    np.testing.assert_array_equal(read_png(path).grey, LABELS)


def packed_grey(values: np.ndarray, bits: int) -> bytes:
    """A PNG file, written by hand: no library at hand writes grey of 2 or 4 bits."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = b""
    for row in values:
        as_bits = np.unpackbits(row[:, None], axis=1)[:, -bits:].flatten()
        rows += b"\0" + np.packbits(as_bits).tobytes()
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("channels", [3, 4, 2])
def test_equal_colours_are_grey(tmp_path: Path, channels: int):
    values = np.stack([grey(1)] * channels, axis=-1)
    if channels != 3:
        values[..., -1] = 255
    np.testing.assert_array_equal(
        array(SingleSliceReader().read_image(save(values, tmp_path / "a.png")))[0], grey(1)
    )
    values[2, 3, 0] ^= 1
    if channels > 2:
        with pytest.raises(
            InputError, match=r"a\.png: is a colour image; its red, green and blue must be equal"
        ):
            SingleSliceReader().read_image(save(values, tmp_path / "a.png"))
    else:
        values[2, 3, 1] = 254
        with pytest.raises(InputError, match=r"a\.png: has transparent pixels"):
            SingleSliceReader().read_image(save(values, tmp_path / "a.png"))


def test_png_files_that_cannot_be_read_are_named(tmp_path: Path):
    whole = save(grey(1), tmp_path / "whole.png").read_bytes()
    for name, content in (("cut.png", whole[:60]), ("empty.png", b""), ("text.png", b"hello" * 9)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            InputError, match=rf"{name}: cannot be read as PNG, it is damaged or incomplete"
        ):
            read_png(tmp_path / name)


# ---------------------------------------------------------------------- masks


def masked(mask: Path, tmp_path: Path, reader: SingleSliceReader | None = None) -> np.ndarray:
    reader = reader or SingleSliceReader()
    image = save(grey(1), tmp_path / "image.png")
    return array(reader.read_mask(mask, reader.read_image(image), image))[0]


def test_a_palette_holds_the_labels(tmp_path: Path):
    picture = Image.fromarray(LABELS)
    picture = picture.convert("P")
    picture.putdata(LABELS.flatten().tolist())
    picture.putpalette([10, 20, 30, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / "m.png")
    np.testing.assert_array_equal(masked(tmp_path / "m.png", tmp_path), LABELS)


@pytest.mark.parametrize("transparent", [False, True])
def test_classes_by_colours(tmp_path: Path, transparent: bool):
    task = parse_label_options(("liver=#ff0000", "spleen=#0000ff"), colours=True)
    assert task.labels == {"liver": (0xFF0000,), "spleen": (0x0000FF,)}
    pixels = colour(LABELS, 0xFF0000, 0x0000FF)
    if transparent:  # background that is white, but cannot be seen
        pixels[LABELS == 0] = 255
        pixels = np.concatenate([pixels, 255 * (LABELS > 0)[..., None].astype(np.uint8)], axis=-1)
    found = masked(
        save(pixels, tmp_path / "m.png"), tmp_path, SingleSliceReader(colours=task.labels)
    )
    np.testing.assert_array_equal(found, np.array([0, 0xFF0000, 0x0000FF])[LABELS])


def test_unknown_colours_are_named(tmp_path: Path):
    path = save(colour(LABELS, 0xFF0000, 0x00FF07), tmp_path / "m.png")
    with pytest.raises(
        InputError,
        match=r"m\.png: is a coloured mask; name its colours, for example --label liver=#ff0000",
    ):
        masked(path, tmp_path)
    colours = {"liver": (0xFF0000,)}
    with pytest.raises(
        InputError, match=r"holds the colour #00ff07 \(known: liver=#ff0000\); name it with --label"
    ):
        masked(path, tmp_path, SingleSliceReader(colours=colours))
    found = masked(path, tmp_path, SingleSliceReader(colours=colours, ignore_others=True))
    np.testing.assert_array_equal(found == 0xFF0000, LABELS == 1)


def test_converted_colours(tmp_path: Path, raw: Path):
    for name in ("anna_1", "ben_1"):
        save(grey(3), tmp_path / "images" / f"{name}.png")
        save(colour(LABELS, 0xFF0000, 0x123456), tmp_path / "masks" / f"{name}.png")
    folder = convert("slices2d", tmp_path, label=("liver=#FF0000",), ignore_other_labels=True)
    np.testing.assert_array_equal(voxels(folder, "P001_S1")[0], LABELS == 1)


def test_masks_that_do_not_fit_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"m\.png: is not on the grid of its image image\.png"):
        masked(save(LABELS[:-1], tmp_path / "m.png"), tmp_path)
    write_image(
        image_like(LABELS[None], single_slice_grid(SIZE, (1.0, 1.0))), tmp_path / "m.nii.gz"
    )
    with pytest.raises(InputError, match=r"m\.nii\.gz: its image image\.png is of another kind"):
        masked(tmp_path / "m.nii.gz", tmp_path)


# ---------------------------------------------------------------------- NIfTI files


def write_nifti(values: np.ndarray, path: Path, spacing: tuple[float, ...]) -> Path:
    """With as many axes as values (y, x) or (z, y, x) has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-spacing[0], -spacing[1], *spacing[2:], 1.0, 1.0][:4])
    nibabel.save(nibabel.Nifti1Image(values.T, affine), path)
    return path


def test_nifti_of_two_axes_and_of_one_slice(tmp_path: Path, raw: Path):
    # one thick, one thinner than its pixels
    write_nifti(grey(1).astype(np.int16), tmp_path / "images" / "anna_1.nii.gz", (0.8, 0.7))
    write_nifti(LABELS, tmp_path / "masks" / "anna_1.nii.gz", (0.8, 0.7))
    for name, thickness in (("ben_1", 5.0), ("carl_1", 0.5)):
        grid = Grid((9, 6, 1), (0.8, 0.7, thickness), (3.0, 4.0, 5.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
        write_image(image_like(grey(2)[None], grid), tmp_path / "images" / f"{name}.nii.gz")
        write_image(image_like(LABELS[None], grid), tmp_path / "masks" / f"{name}.nii.gz")
    folder = convert("slices2d", tmp_path, label=("a=1", "b=2"))
    for name, seed, thickness in (("anna", 1, 999.0), ("ben", 2, 5.0), ("carl", 2, 999.0)):
        case = case_of(folder, name, f"{name}_1")
        np.testing.assert_array_equal(voxels(folder, case, 0)[0], grey(seed))
        np.testing.assert_array_equal(voxels(folder, case)[0], LABELS)
        assert written(folder, case, 0).GetSpacing() == pytest.approx((0.8, 0.7, thickness))
        assert Grid.from_image(written(folder, case)).matches(
            Grid.from_image(written(folder, case, 0))
        )


def test_nifti_that_is_no_slice_is_refused(tmp_path: Path):
    volume = write_nifti(np.zeros((3, 6, 9), np.int16), tmp_path / "v.nii.gz", (1, 1, 2))
    with pytest.raises(InputError, match=r"v\.nii\.gz: has 9x6x3 voxels, so it is a volume"):
        read_single_slice_image(volume)
    fractions = write_nifti(np.full((6, 9), 0.5, np.float32), tmp_path / "f.nii.gz", (1, 1))
    assert array(read_single_slice_image(fractions)).max() == 0.5
    with pytest.raises(InputError, match=r"f\.nii\.gz: a mask must hold integers"):
        read_single_slice_mask(fractions)
    values = np.ones((6, 9), np.float32)
    values[0, 0] = np.nan
    with pytest.raises(InputError, match="1 pixels are NaN or infinite"):
        read_single_slice_image(write_nifti(values, tmp_path / "n.nii", (1, 1)))
    cut = tmp_path / "cut.nii"
    cut.write_bytes(write_nifti(values, tmp_path / "n.nii", (1, 1)).read_bytes()[:400])
    with pytest.raises(InputError, match=r"cut\.nii: cannot be read, it is damaged or incomplete"):
        read_single_slice_image(cut)
    with pytest.raises(InputError, match=r"none\.nii: no such file"):
        read_single_slice_image(tmp_path / "none.nii")


# ---------------------------------------------------------------------- options


def test_pixel_sizes():
    assert pixel_size(None) == ((1.0, 1.0), 999.0)
    assert pixel_size("0.8,0.7") == ((0.8, 0.7), 999.0)
    assert pixel_size("0.8,0.7,5") == ((0.8, 0.7), 5.0)
    for wrong in ("0.8", "a,b", "0,1", "-1,1", "1,2,2", "1,1,1,9", "1,1,inf", "nan,1"):
        with pytest.raises(InputError, match=f"--pixel-spacing {wrong}: write width and height"):
            pixel_size(wrong)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (("liver",), "--label liver: write NAME=VALUE"),
        (("liver=0",), "0 .black. is the background"),
        (("liver=#000000",), "is the background"),
        (("liver=1", "liver=2"), "liver is given twice"),
        (("liver=1", "spleen=#ff0000"), "give numbers or colours, not both"),
        (("liver=#ff00",), "write NAME=VALUE"),
    ],
)
def test_classes_that_cannot_be_are_refused(entries: tuple[str, ...], message: str):
    with pytest.raises(InputError, match=message):
        parse_label_options(entries, colours=True)


def test_colours_are_for_slices_only():
    with pytest.raises(InputError, match=r"such as liver=6 or liver=1\+2"):
        parse_label_options(("liver=#ff0000",))
