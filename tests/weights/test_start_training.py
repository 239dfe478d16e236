"""Trainings that start from imported weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.weights.import_weights import import_weights
from tests.conftest import DATASET
from tests.training import find_trainer, make_trainer, quietly, read_inputs, run_one_epoch, weights
from tests.weights.checkpoints import TINY, models_genesis, save_models_genesis

SINGLE = "nnUNetTrainerSingleInput"


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")


@pytest.fixture(scope="module")
def stock(nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that nnU-Net's own trainer wrote after an epoch, with its log."""
    results = tmp_path_factory.mktemp("stock")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_n_proc_DA", "0")
        patch.setenv("nnUNet_results", str(results))
        content, dataset_json = read_inputs(nnunet_root, SINGLE)
        trainer = quietly(
            find_trainer("nnUNetTrainer"),
            content,
            "3d_fullres",
            0,
            dataset_json,
            torch.device("cpu"),
        )
        (
            trainer.num_epochs,
            trainer.num_iterations_per_epoch,
            trainer.num_val_iterations_per_epoch,
        ) = 2, 1, 1
        quietly(trainer.on_train_start)
        quietly(run_one_epoch, trainer)
    return Path(trainer.output_folder) / "checkpoint_best.pth"


@pytest.fixture(scope="module")
def imported(stock: Path, plans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("imported") / "start.pth"
    import_weights("nnunet", stock, path, plans=str(plans))
    return path


@pytest.fixture(scope="module")
def plans(nnunet_root: Path) -> Path:
    return nnunet_root / "preprocessed" / DATASET / "nnUNetPlans.json"


def log_of(trainer: Any) -> str:
    return Path(trainer.log_file).read_text()


def assert_starts_from(trainer: Any, path: Path) -> None:
    """Before the first step all weights are those of the file."""
    quietly(trainer.on_train_start)
    saved, own = torch.load(path, weights_only=True)["network_weights"], weights(trainer)
    assert own.keys() == saved.keys()
    assert all(torch.equal(value, saved[name]) for name, value in own.items())


def finish(trainer: Any) -> None:
    trainer.dataloader_train._finish()
    trainer.dataloader_val._finish()


def test_a_stock_model_starts_ours(stock: Path, imported: Path, nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(
        nnunet_root,
        tmp_path,
        SINGLE,
        segmentor_checkpoint=str(imported),
        num_iterations_per_epoch=2,
    )
    assert_starts_from(trainer, imported)
    theirs = torch.load(stock, weights_only=False)["network_weights"]
    before = weights(trainer)
    differing = {
        name
        for name, value in theirs.items()
        if not torch.equal(before[f"networks.0.{name}"], value)
    }
    assert {name for name in differing if ".seg_layers." not in name} == {
        name for name in theirs if name.endswith("encoder.stages.0.0.convs.0.conv.weight")
    } | {
        name for name in theirs if name.endswith("encoder.stages.0.0.convs.0.all_modules.0.weight")
    }
    try:
        quietly(run_one_epoch, trainer)
    finally:
        finish(trainer)
    assert any(not torch.equal(value, before[name]) for name, value in weights(trainer).items())
    log = log_of(trainer)
    assert (
        f"Started from {imported}: 50 of 56 weights are of checkpoint_best.pth (nnunet, SHA-256 "
        in log
    )
    assert "the rest is initialised with seed 0." in log
    assert "WARNING" not in log


def test_the_fold_that_a_stock_model_has_seen(
    imported: Path, stock: Path, plans: Path, nnunet_root: Path, tmp_path: Path
):
    trainer = make_trainer(nnunet_root, tmp_path, SINGLE, segmentor_checkpoint=str(imported))
    trainer.fold = 1  # of the same dataset; the stock model was trained on fold 0
    quietly(trainer.initialize)
    quietly(trainer._start_from_trained_networks)
    assert f"WARNING: {imported} was trained on fold 0, this is fold 1" in log_of(trainer)


def test_a_stock_model_of_other_data_has_seen_no_fold(
    stock: Path, plans: Path, nnunet_root: Path, tmp_path: Path
):
    content = torch.load(stock, weights_only=False)
    content["init_args"]["plans"]["dataset_name"] = "Dataset003_Liver"
    torch.save(content, tmp_path / "other.pth")
    path = tmp_path / "start.pth"
    import_weights("nnunet", tmp_path / "other.pth", path, plans=str(plans))
    trainer = make_trainer(nnunet_root, tmp_path, SINGLE, segmentor_checkpoint=str(path))
    trainer.fold = 1
    quietly(trainer.initialize)
    quietly(trainer._start_from_trained_networks)
    assert "WARNING" not in log_of(trainer)


def test_models_genesis_starts_a_training(nnunet_root: Path, tmp_path: Path, monkeypatch):
    content, dataset_json = read_inputs(
        nnunet_root, SINGLE, num_epochs=1, num_iterations_per_epoch=2
    )
    entry = content["configurations"]["3d_fullres"]
    entry["architecture"] = {
        "network_class_name": "nnunet_liver_ext.networks.models_genesis_unet.ModelsGenesisUNet",
        "arch_kwargs": {"features_per_stage": list(TINY), "strides": [[1, 1, 1], *[[2, 2, 2]] * 3]},
        "_kw_requires_import": [],
    }
    plans = tmp_path / "nnUNetPlans.json"
    plans.write_text(json.dumps(content))
    (tmp_path / "dataset.json").write_text(json.dumps(dataset_json))
    source = save_models_genesis(tmp_path / "genesis.pt", models_genesis(TINY))
    start = tmp_path / "start.pth"
    import_weights("models-genesis", source, start, plans=str(plans))
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    entry["recipe"]["segmentor_checkpoint"] = str(start)
    trainer = quietly(
        find_trainer(SINGLE), content, "3d_fullres", 0, dataset_json, torch.device("cpu")
    )
    assert_starts_from(trainer, start)
    own = weights(trainer)
    for name, value in models_genesis(TINY).items():
        if not name.startswith("out_tr"):
            assert torch.equal(own[f"networks.0.{name}"], value)
    try:
        quietly(run_one_epoch, trainer)
    finally:
        finish(trainer)
    assert not torch.equal(
        own["networks.0.down_tr64.ops.0.conv1.weight"], next(trainer.network.parameters())
    )
    assert "Licence of these weights: non-commercial licence." in log_of(trainer)


def test_a_companion_meets_an_untrained_segmentor_only_with_a_warning(
    imported: Path, nnunet_root: Path, tmp_path: Path
):
    for numbers, warned in (({}, True), ({"warmup_epochs": 2}, False)):
        folder = tmp_path / str(warned)
        trainer = make_trainer(
            nnunet_root, folder, "nnUNetTrainerGAN", segmentor_checkpoint=str(imported), **numbers
        )
        assert_starts_from(trainer, imported)
        finish(trainer)
        assert ("set warmup_epochs in the recipe" in log_of(trainer)) is warned


@pytest.mark.parametrize("field", ["segmentor_checkpoint", "companion_checkpoint"])
def test_where_imported_weights_do_not_fit(
    field: str, imported: Path, nnunet_root: Path, tmp_path: Path
):
    name = "nnUNetTrainerDualInput" if field == "segmentor_checkpoint" else "nnUNetTrainerGAN"
    trainer = make_trainer(nnunet_root, tmp_path, name, **{field: str(imported)})
    quietly(trainer.initialize)
    expected = (
        "is a segmentor of strategy single_input"
        if name.endswith("DualInput")
        else "imported weights of a segmentor and"
    )
    with pytest.raises(InputError, match=expected):
        quietly(trainer.on_train_start)


def test_the_command(plans: Path, tmp_path: Path):
    content = json.loads(plans.read_text())
    entry = content["configurations"]["3d_fullres"]["architecture"]
    entry["network_class_name"] = "nnunet_liver_ext.networks.models_genesis_unet.ModelsGenesisUNet"
    entry["arch_kwargs"] = {
        "features_per_stage": list(TINY),
        "strides": [[1, 1, 1], *[[2, 2, 2]] * 3],
    }
    entry["_kw_requires_import"] = []
    own = tmp_path / "genesis plans.json"
    own.write_text(json.dumps(content))
    weights = {
        name: value
        for name, value in models_genesis(TINY).items()
        if name != "up_tr64.ops.1.bn1.bias"
    }
    source = save_models_genesis(tmp_path / "genesis.pt", {**weights, "projection": torch.ones(3)})
    command = [
        "import-weights",
        "models-genesis",
        str(source),
        "-p",
        str(own),
        "-o",
        str(tmp_path / "my start.pth"),
    ]
    command += ["-d", str(plans.parent / "dataset.json")]
    done = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    for text in (
        "100% of the encoder are from the file; all else is initialised with seed 0.",
        "not in the file",
        "up_tr64.ops.1.bn1.bias",
        "a head for 1 classes in the file, for 2 here",
        "unknown in this network",
        "projection",
        "\nModels Genesis weights: non-commercial licence.\n",
        f"--set 'segmentor_checkpoint={tmp_path / 'my start.pth'}'",
    ):
        assert text in done.output
    again = CliRunner().invoke(app, command)
    assert isinstance(again.exception, InputError)
    assert (
        str(again.exception)
        == f"{tmp_path / 'my start.pth'}: is there already; replace it with --overwrite."
    )
