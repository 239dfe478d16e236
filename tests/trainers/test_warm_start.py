"""Starting from a trained segmentor or companion network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_liver_ext.errors import InputError
from tests.conftest import DATASET
from tests.training import find_trainer, make_trainer, quietly, read_inputs, run_epochs, weights

SEGMENTOR, ADVERSARIAL = "nnUNetTrainerSingleInput", "nnUNetTrainerGAN"
MODEL = f"{DATASET}/{SEGMENTOR}__nnUNetPlans__3d_fullres"


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")


@pytest.fixture(scope="module")
def results(nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nnUNet_results with a single-input model and a GAN, one epoch each."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_n_proc_DA", "0")
        for name in (SEGMENTOR, ADVERSARIAL):
            run_epochs(make_trainer(nnunet_root, folder, name, num_epochs=1, seed=3), 1, end=True)
    return folder


@pytest.fixture
def segmentor(results: Path) -> Path:
    return results / MODEL / "fold_0" / "checkpoint_final.pth"


@pytest.fixture
def adversary(results: Path) -> Path:
    return (
        results
        / DATASET
        / f"{ADVERSARIAL}__nnUNetPlans__3d_fullres"
        / "fold_0"
        / "checkpoint_final.pth"
    )


def read(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=False)


def start(trainer: Any) -> None:
    """All that nnU-Net does before the first epoch."""
    quietly(trainer.on_train_start)


def altered(path: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    checkpoint = read(path)
    change(checkpoint)
    torch.save(checkpoint, target)
    return target


def refusal(nnunet_root: Path, results: Path, name: str = ADVERSARIAL, **numbers: Any) -> str:
    """The sentence with which training does not begin; nothing has been loaded or written by
    then."""
    trainer = make_trainer(nnunet_root, results, name, **numbers)
    quietly(trainer.initialize)
    before = {**weights(trainer), **trainer.objective.state_dict()}
    before = {key: value.clone() for key, value in before.items()}
    with pytest.raises(InputError) as error:
        run_epochs_of(trainer)
    after = {**weights(trainer), **trainer.objective.state_dict()}
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert not list(Path(trainer.output_folder).glob("*.pth"))
    message = str(error.value)
    assert "\n" not in message
    return message


def run_epochs_of(trainer: Any) -> None:
    start(trainer)
    raise AssertionError("the training began")


def test_all_weights_of_a_segmentor_with_its_heads(
    segmentor: Path, nnunet_root: Path, tmp_path: Path
):
    trainer = make_trainer(
        nnunet_root, tmp_path, ADVERSARIAL, segmentor_checkpoint=str(segmentor), warmup_epochs=0
    )
    quietly(trainer.initialize)
    before, saved = weights(trainer), read(segmentor)["network_weights"]
    assert [phase.name for phase in trainer.phases] == ["both"]
    start(trainer)
    after = weights(trainer)
    assert after.keys() == saved.keys()
    assert all(torch.equal(value, saved[key]) for key, value in after.items())
    heads = [key for key in after if ".seg_layers." in key]
    assert heads
    assert not any(torch.equal(before[key], after[key]) for key in heads if key.endswith("weight"))
    log = Path(trainer.log_file).read_text()
    assert f"Started from the segmentor in {segmentor}." in log
    assert "WARNING" not in log


def test_without_a_warm_up_both_players_begin_at_once(
    segmentor: Path, nnunet_root: Path, tmp_path: Path
):
    trainer = make_trainer(nnunet_root, tmp_path, ADVERSARIAL, segmentor_checkpoint=str(segmentor))
    run_epochs(trainer, 1)
    assert "training loss: deceiving the discriminator" in trainer.history
    assert (Path(trainer.output_folder) / "checkpoint_best.pth").exists()


def test_a_path_in_the_results_with_the_fold_left_open(
    results: Path, segmentor: Path, nnunet_root: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("nnUNet_results", str(results))
    path = f"{MODEL}/fold_{{fold}}/checkpoint_final.pth"
    trainer = make_trainer(nnunet_root, tmp_path, ADVERSARIAL, segmentor_checkpoint=path)
    start(trainer)
    assert all(
        torch.equal(value, read(segmentor)["network_weights"][key])
        for key, value in weights(trainer).items()
    )
    trainer.fold = 3
    with pytest.raises(
        InputError, match=r"fold_3/checkpoint_final\.pth: no such checkpoint to start from"
    ):
        trainer._start_from_trained_networks()


def test_a_segmentor_that_may_have_seen_the_validation_cases(
    segmentor: Path, nnunet_root: Path, tmp_path: Path
):
    def of_fold_1(checkpoint: dict[str, Any]) -> None:
        checkpoint["init_args"]["fold"] = 1

    path = altered(segmentor, tmp_path / "fold_1.pth", of_fold_1)
    trainer = make_trainer(nnunet_root, tmp_path, ADVERSARIAL, segmentor_checkpoint=str(path))
    start(trainer)
    log = Path(trainer.log_file).read_text()
    assert f"WARNING: {path} was trained on fold 1, this is fold 0" in log
    assert all(
        torch.equal(value, read(path)["network_weights"][key])
        for key, value in weights(trainer).items()
    )


def test_a_missing_file(nnunet_root: Path, tmp_path: Path):
    missing = tmp_path / "missing.pth"
    message = refusal(nnunet_root, tmp_path, segmentor_checkpoint=str(missing))
    assert message.startswith(f"{missing}: no such checkpoint to start from")
    assert refusal(nnunet_root, tmp_path / "other", companion_checkpoint=str(missing)) == message


def test_a_segmentor_of_another_strategy(segmentor: Path, nnunet_root: Path, tmp_path: Path):
    message = refusal(
        nnunet_root,
        tmp_path,
        "nnUNetTrainerSimilarityTranslation",
        segmentor_checkpoint=str(segmentor),
    )
    assert (
        message == f"{segmentor}: is a segmentor of strategy single_input, this trainer has"
        " dual_output_specialized."
    )


def test_a_segmentor_of_stock_nnunet(nnunet_root: Path, tmp_path: Path):
    plans, dataset_json = read_inputs(nnunet_root, SEGMENTOR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_results", str(tmp_path))
        stock = quietly(
            find_trainer("nnUNetTrainer"), plans, "3d_fullres", 0, dataset_json, torch.device("cpu")
        )
    quietly(stock.initialize)
    path = tmp_path / "stock.pth"
    stock.save_checkpoint(str(path))
    message = refusal(nnunet_root, tmp_path, segmentor_checkpoint=str(path))
    assert (
        message
        == f"{path}: was written by nnUNetTrainer, which is none of this package's trainers: import"
        " its segmentor with nnunet_liver import-weights nnunet."
    )


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_truncated_file(keep: float, segmentor: Path, nnunet_root: Path, tmp_path: Path):
    path = tmp_path / "truncated.pth"
    content = segmentor.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    message = refusal(nnunet_root, tmp_path, segmentor_checkpoint=str(path))
    assert message.startswith(f"{path}: is no complete nnU-Net checkpoint")


def test_a_file_of_a_later_version(segmentor: Path, nnunet_root: Path, tmp_path: Path):
    path = altered(
        segmentor,
        tmp_path / "later.pth",
        lambda checkpoint: checkpoint["nnunet_liver_ext"].update(version="99.0"),
    )
    assert f"{path}: was written by nnunet_liver_ext 99.0" in refusal(
        nnunet_root, tmp_path, segmentor_checkpoint=str(path)
    )


def test_a_segmentor_of_other_plans(nnunet_root: Path, tmp_path: Path, monkeypatch):
    plans, dataset_json = read_inputs(nnunet_root, SEGMENTOR)
    features = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"][
        "features_per_stage"
    ]
    features[0] *= 2
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    wider = quietly(
        find_trainer(SEGMENTOR), plans, "3d_fullres", 0, dataset_json, torch.device("cpu")
    )
    quietly(wider.initialize)
    path = tmp_path / "wider.pth"
    wider.save_checkpoint(str(path))
    message = refusal(nnunet_root, tmp_path / "other", segmentor_checkpoint=str(path))
    assert message.startswith(f"{path}: the weights of its segmentor do not fit: ")
    assert "it needs the same plans (network, classes)" in message


def test_a_trained_companion(adversary: Path, nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(nnunet_root, tmp_path, ADVERSARIAL, companion_checkpoint=str(adversary))
    quietly(trainer.initialize)
    segmentor_before = weights(trainer)
    start(trainer)
    saved = read(adversary)["nnunet_liver_ext"]["objective"]
    own = trainer.objective.state_dict()
    assert [key for key in own if key.startswith("companion.")]
    assert all(torch.equal(value, saved[key]) for key, value in own.items())
    assert all(torch.equal(value, segmentor_before[key]) for key, value in weights(trainer).items())
    assert (
        f"Started from the companion network in {adversary}." in Path(trainer.log_file).read_text()
    )


@pytest.mark.parametrize("name", ["nnUNetTrainerGambling", "nnUNetTrainerEmbedding"])
def test_a_companion_of_another_objective(
    name: str, adversary: Path, nnunet_root: Path, tmp_path: Path
):
    message = refusal(nnunet_root, tmp_path, name, companion_checkpoint=str(adversary))
    own = name.removeprefix("nnUNetTrainer").lower()
    assert (
        message
        == f"{adversary}: its companion network is of objective gan, this trainer has {own}."
    )


def test_a_model_without_a_companion_is_no_companion(
    segmentor: Path, nnunet_root: Path, tmp_path: Path
):
    message = refusal(nnunet_root, tmp_path, companion_checkpoint=str(segmentor))
    assert (
        message
        == f"{segmentor}: its companion network is of objective dice_ce, this trainer has gan."
    )


def test_a_companion_of_other_numbers(adversary: Path, nnunet_root: Path, tmp_path: Path):
    message = refusal(
        nnunet_root, tmp_path, companion_checkpoint=str(adversary), spectral_norm=True
    )
    assert message.startswith(f"{adversary}: the weights of its companion network do not fit: ")


def test_a_gan_goes_on_from_a_single_input_checkpoint_only_as_a_start(
    segmentor: Path, nnunet_root: Path, tmp_path: Path
):
    """`--c` is for the same trainer; the message of a GAN's own name without a companion says what
    to do instead."""

    def renamed(checkpoint: dict[str, Any]) -> None:
        checkpoint["trainer_name"] = ADVERSARIAL
        checkpoint["nnunet_liver_ext"]["recipe"]["objective"] = "gan"

    trainer = make_trainer(nnunet_root, tmp_path, ADVERSARIAL)
    path = altered(segmentor, tmp_path / "renamed.pth", renamed)
    with pytest.raises(
        InputError,
        match=r"holds no companion network.*name it as segmentor_checkpoint in the recipe",
    ):
        trainer.load_checkpoint(str(path))
    with pytest.raises(
        InputError, match=f"was written by {SEGMENTOR} and cannot be continued by {ADVERSARIAL}"
    ):
        trainer.load_checkpoint(str(segmentor))


def test_a_training_that_is_continued_needs_the_file_no_more(
    segmentor: Path, nnunet_root: Path, tmp_path: Path
):
    copy = tmp_path / "start.pth"
    copy.write_bytes(segmentor.read_bytes())
    straight = make_trainer(
        nnunet_root, tmp_path / "straight", ADVERSARIAL, segmentor_checkpoint=str(copy)
    )
    run_epochs(straight, 2)
    first = make_trainer(
        nnunet_root, tmp_path / "broken", ADVERSARIAL, segmentor_checkpoint=str(copy)
    )
    run_epochs(first, 1)
    copy.unlink()
    second = make_trainer(
        nnunet_root, tmp_path / "broken", ADVERSARIAL, segmentor_checkpoint=str(copy)
    )
    quietly(second.load_checkpoint, str(Path(first.output_folder) / "checkpoint_latest.pth"))
    run_epochs(second, 2)
    for key, value in weights(straight).items():
        assert torch.equal(value, weights(second)[key]), key
