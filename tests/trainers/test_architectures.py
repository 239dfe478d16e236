"""Each network of this package through training, final validation and prediction, at a size that
takes seconds."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, array, image_like, read_mask, write_image
from nnunet_liver_ext.studies.study import Study
from tests.conftest import CASES, blob_pair
from tests.training import make_trainer, quietly, run_epochs

NETWORKS = "nnunet_liver_ext.networks"
LEVELS = {"strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]], "features_per_stage": [4, 8, 8]}
ANISOTROPIC = LEVELS | {"kernel_sizes": [[1, 3, 3], [1, 3, 3], [3, 3, 3]]}


def plans_entry(
    module: str, name: str, arch_kwargs: dict[str, Any], **entries: Any
) -> dict[str, Any]:
    architecture = {
        "network_class_name": f"{NETWORKS}.{module}.{name}",
        "arch_kwargs": arch_kwargs,
        "_kw_requires_import": [],
    }
    return {"architecture": architecture, **entries}


TUMOUR = plans_entry(
    "anisotropic_unet",
    "AnisotropicUNet",
    ANISOTROPIC | {"padding": "valid"},
    patch_size=[16, 52, 52],
)
SAME = plans_entry("anisotropic_unet", "AnisotropicUNet", ANISOTROPIC | {"padding": "same"})
SLICES = plans_entry(
    "slice_unet",
    "SliceUNet",
    {
        "strides": [[1, 1, 1], [1, 2, 2], [1, 2, 2]],
        "features_per_stage": [4, 8, 8],
        "neighbours": 1,
    },
    patch_size=[4, 32, 32],
    batch_size=1,
)
GENESIS = plans_entry(
    "models_genesis_unet",
    "ModelsGenesisUNet",
    {"strides": [[1, 1, 1], *[[2, 2, 2]] * 3]},
    batch_size=1,
)
CHAINS = {
    "valid": ("nnUNetTrainerLiverTumor", TUMOUR, {"deep_supervision": False}),
    "valid, unsupervised levels": ("nnUNetTrainerLiverTumor", TUMOUR, {}),
    "same": ("nnUNetTrainerSingleInput", SAME, {}),
    "slices": ("nnUNetTrainerLiver", SLICES, {}),
    "pairs of slices": ("nnUNetTrainerSingleInput", SLICES, {}),
    "DI2IN": ("nnUNetTrainerDI2IN", {}, {}),
}
WHOLE = ("valid", "slices", "pairs of slices", "DI2IN")


def made(name: str, root: Path, results: Path, **numbers: Any) -> Any:
    trainer, entry, own = CHAINS[name]
    return make_trainer(
        root, results, trainer, entry, num_epochs=1, num_iterations_per_epoch=2, **own, **numbers
    )


@pytest.fixture(scope="module", params=CHAINS)
def trained(request, nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trainer after one epoch and its final validation."""
    trainer = made(request.param, nnunet_root, tmp_path_factory.mktemp("architecture"))
    run_epochs(trainer, 1, end=True)
    quietly(trainer.perform_actual_validation)
    return request.param, trainer


def study_of(trainer: Any, folder: Path) -> Study:
    """A study with the native images of the first validation case, and its liver mask if the
    trainer needs one."""
    (first, second), (liver, _) = blob_pair(3)
    grid = Grid((40, 40, 20), (1.5, 1.5, 3.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    names = {"one": first, "two": second, "liver": liver}
    for name, values in names.items():
        write_image(image_like(values, grid), folder / f"{name}.nii.gz")
    files = {name: folder / f"{name}.nii.gz" for name in names}
    if trainer.organ is not None:
        return Study("P", "P", {"MR": files["one"]}, {"liver": files["liver"]})
    first_name, second_name = trainer.dataset_json["channel_names"].values()
    return Study("P", "P", {first_name: files["one"], second_name: files["two"]}, {})


def test_it_learns_and_is_scored_on_whole_cases(trained):
    name, trainer = trained
    assert np.isfinite(trainer.logger.get_value("train_losses", -1))
    folder = Path(trainer.output_folder) / "validation"
    summary = json.loads((folder / "summary.json").read_text())
    assert {case["prediction_file"] for case in summary["metric_per_case"]} == {
        f"{case}.nii.gz" for case in CASES[3:]
    }
    assert array(read_mask(folder / f"{CASES[3]}.nii.gz")).shape == (20, 40, 40)
    assert trainer.network.whole_volume == (name in WHOLE or name.startswith("valid"))


def test_the_final_validation_is_what_predict_gives(trained, tmp_path: Path):
    from nnunet_liver_ext.inference.load_model import load_model
    from nnunet_liver_ext.inference.predict import predict_studies

    _, trainer = trained
    model = load_model(
        Path(trainer.output_folder_base), device=torch.device("cpu"), postprocessing=False
    )
    study = study_of(trainer, tmp_path)
    predict_studies(model, [study], tmp_path / "out")
    single = model.conversion.layout == "images"
    names = ["P"] if single else [f"P_{name}" for name in model.segmented]
    for name in names:
        assert array(read_mask(tmp_path / "out" / f"{name}.nii.gz")).shape == (20, 40, 40)
    if single:  # the very images of the validation case, on the very grid
        validated = array(
            read_mask(Path(trainer.output_folder) / "validation" / f"{CASES[3]}.nii.gz")
        )
        assert (array(read_mask(tmp_path / "out" / "P.nii.gz")) == validated).mean() > 0.99


def test_a_tile_is_not_all_that_is_seen(trained):
    """Where our predictor takes whole volumes, it equals the network on the whole volume."""
    from nnunet_liver_ext.trainers.final_validation import make_predictor

    name, trainer = trained
    if not trainer.network.whole_volume:
        pytest.skip("tiles")
    trainer.set_deep_supervision_enabled(False)
    predictor = quietly(lambda: make_predictor(trainer, mirroring=False))
    channels = (
        2 if name == "pairs of slices" or trainer.organ is not None else trainer.num_input_channels
    )
    volume = torch.randn(channels, 21, 39, 45, generator=torch.Generator().manual_seed(0))
    found = predictor.predict_sliding_window_return_logits(volume)
    with torch.no_grad():
        torch.testing.assert_close(found, trainer.network.eval()(volume[None])[0].float())
    assert found.shape[1:] == (21, 39, 45)


def test_what_is_wished_for_lies_in_the_output(nnunet_root: Path, tmp_path: Path):
    """Unpadded patches reach beyond the image, so that what lies at its border is learnt, too."""
    trainer = made("valid", nnunet_root, tmp_path, foreground_share=1.0)
    quietly(trainer.initialize)
    loader, other = trainer.get_dataloaders()
    try:
        beyond = False
        for _ in range(12):
            batch = next(loader)
            (view,) = trainer.game.views(batch)
            assert view.labels.shape[2:] == (8, 12, 12)
            assert (view.labels == 1).flatten(1).any(1).all()
            beyond |= bool((batch["data"] == 0).flatten(2).all(2).any()) or bool(
                (batch["data"][:, :, :, 0] == 0).all()
            )
        assert beyond  # 52 voxels of an image of 40
    finally:
        for one in (loader, other):
            one._finish()


def test_a_gpu_that_is_too_small_sees_tiles(nnunet_root: Path, tmp_path: Path, monkeypatch):
    from nnunet_liver_ext.trainers.final_validation import make_predictor

    trainer = made("DI2IN", nnunet_root, tmp_path)
    quietly(trainer.initialize)
    trainer.set_deep_supervision_enabled(False)
    predictor = quietly(lambda: make_predictor(trainer, mirroring=False))
    small = predictor._internal_maybe_mirror_and_predict

    def runs_out(x: torch.Tensor) -> torch.Tensor:
        if x.shape[2:] != (16, 32, 32):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return small(x)

    monkeypatch.setattr(predictor, "_internal_maybe_mirror_and_predict", runs_out)
    with pytest.warns(
        UserWarning, match="20 x 40 x 40 voxels do not fit into the GPU's memory at once"
    ):
        found = quietly(predictor.predict_sliding_window_return_logits, torch.randn(2, 20, 40, 40))
    assert found.shape == (2, 20, 40, 40)


@pytest.mark.parametrize("shared", [None, True, False])
def test_models_genesis_takes_views_one_at_a_time(
    nnunet_root: Path, tmp_path: Path, shared: bool | None
):
    """In evaluation always; in training by the plans, those from before (None) together."""
    entry = deepcopy(GENESIS)
    if shared is not None:
        entry["architecture"]["arch_kwargs"]["views_share_statistics"] = shared
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerSingleInput", entry)
    quietly(trainer.initialize)
    trainer.set_deep_supervision_enabled(False)
    network = trainer.network.eval()
    x = torch.randn(1, 2, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 1] += 1
    with torch.no_grad():
        assert torch.equal(network.views(x)[0], network.views(other)[0])
        assert not torch.equal(network.views(x)[1], network.views(other)[1])
        in_evaluation = network.views(x)
        network.train()
        assert torch.equal(network.views(x)[0], network.views(other)[0]) == (shared is False)
        for found, expected in zip(network.views(x), in_evaluation, strict=True):
            assert torch.equal(found, expected) == (shared is False)


def test_a_trainer_of_one_network_refuses_others(nnunet_root: Path, tmp_path: Path):
    with pytest.raises(
        InputError,
        match=r"nnUNetTrainerDI2IN trains the network DI2IN, but configuration 3d_fullres .* ",
    ):
        make_trainer(nnunet_root, tmp_path, "nnUNetTrainerDI2IN", SAME)


def test_an_organ_mask_is_no_image(nnunet_root: Path, tmp_path: Path, monkeypatch):
    import tests.training

    monkeypatch.setitem(tests.training.DATASETS, "one_view", "Dataset503_Tumours")
    with pytest.raises(
        InputError,
        match="nnUNetTrainerLiver would take the liver mask of Dataset503_Tumours for an image",
    ):
        make_trainer(nnunet_root, tmp_path, "nnUNetTrainerLiver")


def test_tumours_need_an_organ_mask(nnunet_root: Path, tmp_path: Path, monkeypatch):
    import tests.training

    monkeypatch.setitem(tests.training.DATASETS, "image_alone", "Dataset502_Preregistered")
    with pytest.raises(
        InputError,
        match=r"nnUNetTrainerLiverTumor needs an organ mask, but dataset.json of Dataset502",
    ):
        make_trainer(nnunet_root, tmp_path, "nnUNetTrainerLiverTumor")


def test_the_log_says_how_many_voxels_the_organ_is_dilated_by(nnunet_root: Path, tmp_path: Path):
    spacing = {"spacing": [4.0, 1.5, 1.5]}
    for dilation_mm, line in (
        (
            4.0,
            ": the voxel loss counts within the liver mask dilated by 4 mm, which is 1 x 3 x 3 v",
        ),
        (
            0.7,
            ": WARNING: the voxel loss counts within the liver mask dilated by 0.7 mm, which is 0",
        ),
    ):
        trainer = make_trainer(
            nnunet_root,
            tmp_path,
            "nnUNetTrainerLiverTumor",
            {**TUMOUR, **spacing},
            organ_dilation_mm=dilation_mm,
        )
        quietly(trainer.initialize)
        assert line in Path(trainer.log_file).read_text()
