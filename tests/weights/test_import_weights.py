"""From a foreign checkpoint to the file that trainings start from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.weights.import_weights import WeightsImport, import_weights
from tests.weights.checkpoints import (
    PAIRS,
    TINY,
    genesis_plans,
    images,
    models_genesis,
    save_models_genesis,
    slice_plans,
    unet_plans,
    vgg11,
)


def run(
    kind: str, source: Path, plans: Path, **options: Any
) -> tuple[WeightsImport, dict[str, Tensor]]:
    """The import, and the weights in the written file; nothing in that needs pickle."""
    out = plans.parent / "start.pth"
    imported = import_weights(kind, source, out, plans=str(plans), **options)
    return imported, torch.load(out, weights_only=True)["network_weights"]


def refusal(kind: str, source: Path, plans: Path, **options: Any) -> str:
    out = options.pop("out", plans.parent / "refused.pth")
    before = out.read_bytes() if out.is_file() else None
    with pytest.raises(InputError) as error:
        import_weights(kind, source, out, plans=str(plans), **options)
    assert (out.read_bytes() if out.is_file() else None) == before
    assert not list(plans.parent.glob(".unfinished_*"))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def genesis(tmp_path: Path) -> Path:
    return save_models_genesis(tmp_path / "genesis.pt", models_genesis(TINY))


# ---------------------------------------------------------------------- Models Genesis


def test_the_published_models_genesis_network(tmp_path: Path):
    weights = models_genesis()
    assert len(weights) == 106
    assert (
        sum(
            value.numel()
            for name, value in weights.items()
            if "running" not in name and "num_" not in name
        )
        == 19_073_665
    )
    source = save_models_genesis(tmp_path / "Genesis_Chest_CT.pt", weights)
    plans = genesis_plans(tmp_path / "plans", PAIRS, features=(64, 128, 256, 512))
    imported, written = run("models-genesis", source, plans)
    assert written.keys() == {f"networks.0.{name}" for name in weights}
    heads = {"out_tr.final_conv.weight", "out_tr.final_conv.bias"}
    assert all(
        torch.equal(written[f"networks.0.{name}"], weights[name]) for name in weights.keys() - heads
    )
    assert written["networks.0.out_tr.final_conv.weight"].shape == (2, 64, 1, 1, 1)
    assert {
        match.name: match.reason for match in imported.matches.misshapen_weights
    } == dict.fromkeys(sorted(heads, reverse=True), "a head for 1 classes in the file, for 2 here")
    assert imported.record["share"] == {"of": "encoder", "imported": 1.0}
    assert imported.record["licence"] == "non-commercial licence"


def test_several_channels_share_the_first_convolution(genesis: Path, tmp_path: Path):
    imported, written = run(
        "models-genesis", genesis, genesis_plans(tmp_path / "plans", images(channels=2))
    )
    network = imported.target.networks[0]
    assert [match.outcome for match in imported.matches.of_network][:2] == ["inflated", "used"]
    name = "down_tr64.ops.0.conv1"
    before = nn.Conv3d(1, 2, 3, padding=1)
    before.load_state_dict(
        {part: models_genesis(TINY)[f"{name}.{part}"] for part in ("weight", "bias")}
    )
    image = torch.randn(1, 1, 8, 8, 8)
    after = network.get_submodule(name)(image.expand(-1, 2, -1, -1, -1))
    torch.testing.assert_close(after, before(image))
    assert written[f"networks.0.{name}.weight"].shape == (2, 2, 3, 3, 3)


def test_each_network_of_a_strategy_gets_the_same_weights(genesis: Path, tmp_path: Path):
    plans = genesis_plans(tmp_path / "plans", PAIRS)
    imported, written = run(
        "models-genesis", genesis, plans, trainer="nnUNetTrainerDualInputSpecialized"
    )
    for name in models_genesis(TINY):
        if name.startswith("out_tr"):
            continue
        assert torch.equal(written[f"networks.0.{name}"], written[f"networks.1.{name}"])
    assert written["networks.1.down_tr64.ops.0.conv1.weight"].shape[1] == 2
    assert imported.record["networks"] == 2
    assert len(written) == 2 * 106


def test_a_head_of_as_many_classes_is_used(genesis: Path, tmp_path: Path):
    dataset = {
        **images(),
        "labels": {"background": 0, "liver": [1, 2], "tumour": [2]},
        "regions_class_order": [1, 2],
    }
    source = save_models_genesis(tmp_path / "two.pt", models_genesis(TINY, classes=2))
    imported, written = run("models-genesis", source, genesis_plans(tmp_path / "plans", dataset))
    assert len(imported.matches.imported_weights) == 106
    assert torch.equal(
        written["networks.0.out_tr.final_conv.bias"],
        models_genesis(TINY, classes=2)["out_tr.final_conv.bias"],
    )


def test_what_the_file_lacks_is_initialised_from_the_seed(tmp_path: Path):
    encoder = {
        name: value for name, value in models_genesis(TINY).items() if name.startswith("down_tr")
    }
    source, plans = (
        save_models_genesis(tmp_path / "encoder.pt", encoder),
        genesis_plans(tmp_path / "plans", PAIRS),
    )
    first = run("models-genesis", source, plans, seed=4)
    again = run("models-genesis", source, plans, seed=4, overwrite=True)
    other = run("models-genesis", source, plans, seed=5, overwrite=True)
    assert first[0].record["seed"] == 4
    assert len(first[0].matches.missing_weights) == 106 - len(encoder)
    assert all(torch.equal(value, again[1][name]) for name, value in first[1].items())
    differing = {name for name, value in first[1].items() if not torch.equal(value, other[1][name])}
    assert differing == {
        f"networks.0.{match.name}"
        for match in first[0].matches.missing_weights
        if match.name.endswith(
            ("conv.weight", "conv1.weight")
        )  # all else begins with zeros or ones
    }


def test_the_random_numbers_of_the_caller_are_left_alone(genesis: Path, tmp_path: Path):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    run("models-genesis", genesis, genesis_plans(tmp_path / "plans", PAIRS))
    assert torch.equal(torch.rand(3), expected)


# ---------------------------------------------------------------------- VGG11


def test_vgg11_computes_what_torchvision_computes(tmp_path: Path):
    from torchvision.models import vgg

    weights = vgg11()
    source = tmp_path / "vgg11.pth"
    torch.save(weights, source)
    imported, written = run(
        "vgg11", source, slice_plans(tmp_path / "plans", images(channels=3), encoder="vgg11")
    )
    reference = vgg.make_layers(vgg.cfgs["A"])[:20].eval()  # all but the fifth pooling
    reference.load_state_dict(
        {name.removeprefix("features."): w for name, w in weights.items() if "features" in name}
    )
    network, image = imported.target.networks[0].eval(), torch.randn(1, 3, 1, 64, 64)
    seen: list[Tensor] = []
    network.encoder[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        network(image)
        torch.testing.assert_close(seen[0], reference(image[:, :, 0]))
    assert imported.matches.unused == ("classifier.0.weight", "classifier.0.bias")
    assert imported.record["share"] == {"of": "VGG11 encoder", "imported": 1.0}
    assert len(imported.matches.imported_weights) == 16
    assert all(
        match.reason == "not in the file"
        for match in imported.matches.of_network
        if not match.imported
    )
    assert all(name.startswith("networks.0.") for name in written)


def test_rgb_becomes_slices_of_one_channel(tmp_path: Path):
    source = tmp_path / "vgg11.pth"
    torch.save(vgg11(), source)
    plans = slice_plans(tmp_path / "plans", PAIRS, encoder="vgg11", neighbours=2)
    imported, _ = run("vgg11", source, plans)
    first = imported.matches.of_network[0]
    assert (first.outcome, first.reason) == ("inflated", "3 input channels in the file, 5 here")
    network = imported.target.networks[0]
    own = network.state_dict()[network.vgg11_names()["features.0.weight"]]
    torch.testing.assert_close(own.sum(1), vgg11()["features.0.weight"].sum(1))


# ---------------------------------------------------------------------- nnU-Net


def stock(path: Path, plans_file: Path, **init_args: Any) -> Path:
    """A checkpoint with the keys of nnU-Net's own trainers, of the network of these plans."""
    from nnunet_liver_ext.weights.target_network import build_target

    target = build_target(str(plans_file), configuration="3d_fullres", seed=8)
    dataset_json = json.loads((plans_file.parent / "dataset.json").read_text())
    arguments: dict[str, Any] = {
        "plans": json.loads(plans_file.read_text()),
        "configuration": "3d_fullres",
        "fold": 0,
        "dataset_json": dataset_json,
        "device": torch.device("cuda:0"),
        **init_args,
    }
    content = {
        "network_weights": target.networks[0].state_dict(),
        "init_args": arguments,
        "trainer_name": "nnUNetTrainer",
        "current_epoch": 1000,
    }
    torch.save(content, path)
    return path


def test_a_model_of_stock_nnunet(tmp_path: Path):
    """Of two channels and three classes, for one channel and two classes."""
    source = stock(
        tmp_path / "stock.pth",
        unet_plans(tmp_path / "theirs", images(channels=2, classes=3)),
        fold=2,
    )
    theirs = torch.load(source, weights_only=True)["network_weights"]
    imported, written = run("nnunet", source, unet_plans(tmp_path / "ours", PAIRS))
    assert written.keys() == {f"networks.0.{name}" for name in theirs}
    by_outcome = {
        name: [m.name for m in imported.matches.of_network if m.outcome == name]
        for name in ("inflated", "initialised")
    }
    assert by_outcome["inflated"] == ["encoder.stages.0.0.convs.0.conv.weight"]
    assert len(by_outcome["initialised"]) == 4
    assert all(".seg_layers." in name for name in by_outcome["initialised"])
    aliases = [
        name for name in written if "convs.0.conv.weight" in name and "encoder.stages.0." in name
    ]
    assert len(aliases) == 2  # the decoder names the encoder's weights once more
    assert torch.equal(written[aliases[0]], written[aliases[1]])
    for name, value in theirs.items():
        if "seg_layers" not in name and value.shape == written[f"networks.0.{name}"].shape:
            assert torch.equal(written[f"networks.0.{name}"], value)
    assert imported.record["origin"] == {
        "trainer": "nnUNetTrainer",
        "dataset_name": "Dataset501_Blobs",
        "configuration": "3d_fullres",
        "fold": 2,
        "classes": ["background", "class 1", "class 2"],
    }
    assert imported.notes == ()


def test_heads_of_as_many_classes_are_used_and_their_names_noted(tmp_path: Path):
    source = stock(tmp_path / "stock.pth", unet_plans(tmp_path / "theirs", images()))
    imported, _ = run("nnunet", source, unet_plans(tmp_path / "ours", PAIRS))
    assert imported.matches.misshapen_weights == imported.matches.missing_weights == []
    assert imported.notes == (
        "Its heads were trained on background, class 1, this dataset has background, liver.",
    )


def test_a_stock_model_with_other_strides_needs_force(tmp_path: Path):
    """Every weight fits, but they were learnt for another resolution."""
    theirs = unet_plans(tmp_path / "theirs", images(), strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]])
    source, plans = stock(tmp_path / "stock.pth", theirs), unet_plans(tmp_path / "ours", images())
    # the transposed convolutions have the strides' shape, so one of them differs
    message = refusal("nnunet", source, plans)
    assert message.startswith(
        f"{source}: its network differs from that of nnUNetPlans of Dataset501_Blobs,"
        " configuration "
    )
    assert "in strides ([[1, 1, 1], [1, 2, 2], [2, 2, 2]]); plan with the same network" in message
    imported, _ = run("nnunet", source, plans, force=True)
    assert [match.name for match in imported.matches.misshapen_weights] == [
        "decoder.transpconvs.1.weight"
    ]
    assert imported.notes == (
        "The network of the checkpoint differs in strides ([[1, 1, 1], [1, 2, 2], [2, 2, 2]]).",
    )


def test_a_stock_model_of_another_class_of_network(tmp_path: Path):
    source = stock(tmp_path / "stock.pth", unet_plans(tmp_path / "theirs", images()))
    message = refusal("nnunet", source, genesis_plans(tmp_path / "ours", images()))
    assert "in its class (PlainConvUNet); plan with the same network" in message


def test_a_stock_model_whose_plans_inherit(tmp_path: Path):
    plans = unet_plans(tmp_path / "theirs", images())
    content = json.loads(plans.read_text())
    content["configurations"]["larger"] = {
        "inherits_from": "3d_fullres",
        "patch_size": [32, 32, 32],
    }
    source = stock(tmp_path / "stock.pth", plans, plans=content, configuration="larger")
    wider = unet_plans(tmp_path / "ours", images(), features_per_stage=[4, 8, 16])
    assert "in features_per_stage ([4, 8, 8])" in refusal("nnunet", source, wider)
    assert (
        run("nnunet", source, unet_plans(tmp_path / "same", images()))[0].record["share"][
            "imported"
        ]
        == 1
    )


def test_a_model_of_this_package_needs_no_import(tmp_path: Path):
    plans = unet_plans(tmp_path / "plans", PAIRS)
    source = tmp_path / "ours.pth"
    torch.save(
        {
            "network_weights": {"a": torch.ones(1)},
            "trainer_name": "nnUNetTrainerGAN",
            "nnunet_liver_ext": {},
        },
        source,
    )
    message = refusal("nnunet", source, plans)
    assert (
        message == f"{source}: was written by nnUNetTrainerGAN of this package; name it as"
        " segmentor_checkpoint itself."
    )


# ---------------------------------------------------------------------- what is written


def test_the_record(genesis: Path, tmp_path: Path):
    imported, _ = run("models-genesis", genesis, genesis_plans(tmp_path / "plans", PAIRS))
    content = torch.load(imported.path, weights_only=True)
    record = content["nnunet_liver_ext"]["imported"]
    assert record == imported.record
    assert record["file"] == "genesis.pt"
    assert record["sha256"] == hashlib.sha256(genesis.read_bytes()).hexdigest()
    assert record["kind"] == "models-genesis"
    assert len(record["weights"]) == 106
    assert record["weights"][0] == {
        "name": "down_tr64.ops.0.conv1.weight",
        "source": "down_tr64.ops.0.conv1.weight",
        "outcome": "used",
        "reason": "",
        "numbers": 2 * 27,
    }
    assert content["nnunet_liver_ext"]["recipe"] == {"strategy": "single_input"}
    assert content["trainer_name"] == "nnUNetTrainerSingleInput"
    assert str(tmp_path) not in json.dumps(record)


@pytest.mark.parametrize(
    ("dataset_json", "strategy"),
    [
        (PAIRS, "single_input"),
        (images(channels=2), "one_view"),
        ({**images(channels=2), "organ_mask": {"name": "liver", "channel": 1}}, "image_alone"),
    ],
)
def test_the_trainer_that_data_have_by_default(
    dataset_json: dict, strategy: str, genesis: Path, tmp_path: Path
):
    from nnunet_liver_ext import trainers

    if strategy not in {getattr(trainers, name).recipe.strategy for name in trainers.__all__}:
        pytest.skip(f"no trainer has the strategy {strategy}")
    imported, _ = run("models-genesis", genesis, genesis_plans(tmp_path / "plans", dataset_json))
    assert imported.target.recipe.strategy == strategy


# ---------------------------------------------------------------------- bad input


def test_a_file_with_hardly_anything_of_the_network(tmp_path: Path):
    weights = models_genesis(TINY)
    kept = {
        name: value
        for name, value in weights.items()
        if name.startswith(("down_tr64", "down_tr128"))
    }
    kept["down_tr128.ops.1.conv1.weight"] = torch.ones(9, 9, 3, 3, 3)
    source = save_models_genesis(
        tmp_path / "little.pt", {**kept, "projection.weight": torch.ones(3)}
    )
    plans = genesis_plans(tmp_path / "plans", PAIRS)
    message = refusal("models-genesis", source, plans)
    encoder = sum(value.numel() for name, value in weights.items() if name.startswith("down_tr"))
    fitting = sum(value.numel() for name, value in kept.items()) - 9 * 9 * 27
    assert message.startswith(
        f"{source}: fits {100 * fitting / encoder:.0f}% of the encoder of ModelsGenesisUNet ("
    )
    assert (
        "78 of 106 weights missing: down_tr256.ops.0.conv1.weight, down_tr256.ops.0.conv1.bias, "
        in message
    )
    assert (
        "1 of another shape: down_tr128.ops.1.conv1.weight (shape 9x9x3x3x3 in the file, 8x4x3x3x3"
        " here); " in message
    )
    assert "1 unknown in the file: projection.weight); take what fits with --force" in message
    imported, _ = run("models-genesis", source, plans, force=True)
    assert len(imported.matches.imported_weights) == 27


def test_weights_of_another_kind(tmp_path: Path):
    source = tmp_path / "vgg11.pth"
    torch.save({name: value[:1] for name, value in vgg11().items()}, source)
    plans = genesis_plans(tmp_path / "plans", PAIRS)
    for force in (False, True):
        message = refusal("models-genesis", source, plans, force=force)
        assert message.startswith(
            f"{source}: fits 0% of the encoder of ModelsGenesisUNet (106 of 106 weights missing: "
        )
        assert "18 unknown in the file: features.0.weight, " in message
        assert message.endswith("is it one of Models Genesis?")


def test_weights_of_another_width(tmp_path: Path):
    source = save_models_genesis(tmp_path / "wide.pt", models_genesis((8, 16, 32, 64)))
    message = refusal("models-genesis", source, genesis_plans(tmp_path / "plans", PAIRS))
    assert (
        "of another shape: down_tr64.ops.0.conv1.weight (shape 4x1x3x3x3 in the file, 2x1x3x3x3"
        " here)" in message
    )


def test_plans_of_another_network(genesis: Path, tmp_path: Path):
    plans = unet_plans(tmp_path / "plans", PAIRS)
    assert (
        refusal("models-genesis", genesis, plans)
        == "nnUNetPlans of Dataset501_Blobs, configuration 3d_fullres: its network is"
        " PlainConvUNet, but Models Genesis weights are for ModelsGenesisUNet: plan with"
        " nnunet_liver plan --architecture models-genesis."
    )
    message = refusal("vgg11", genesis, plans)
    assert (
        "its network is PlainConvUNet, but VGG11 weights are for SliceUNet with encoder 'vgg11'"
        in message
    )
    kwargs = {"features_per_stage": [4, 4, 4, 4, 4]}
    message = refusal("vgg11", genesis, slice_plans(tmp_path / "slice", PAIRS, **kwargs))
    assert "its network is SliceUNet with encoder 'plain', but VGG11 weights" in message


def test_a_file_that_is_there(genesis: Path, tmp_path: Path):
    plans, out = genesis_plans(tmp_path / "plans", PAIRS), tmp_path / "there.pth"
    out.write_bytes(b"precious")
    message = refusal("models-genesis", genesis, plans, out=out)
    assert message == f"{out}: is there already; replace it with --overwrite."
    assert "is the checkpoint itself" in refusal(
        "models-genesis", genesis, plans, out=genesis, overwrite=True
    )
    assert "is a folder" in refusal("models-genesis", genesis, plans, out=tmp_path, overwrite=True)
    import_weights("models-genesis", genesis, out, plans=str(plans), overwrite=True)
    assert len(torch.load(out, weights_only=True)["network_weights"]) == 106


def test_plans_and_datasets_that_are_not_there(genesis: Path, tmp_path: Path, monkeypatch):
    plans = genesis_plans(tmp_path / "plans", PAIRS)
    assert "have no configuration 2d; there are 3d_fullres" in refusal(
        "models-genesis", genesis, plans, configuration="2d"
    )
    assert "say whose plans these are (-d 501)" in refusal(
        "models-genesis", genesis, Path("nnUNetPlans")
    )
    assert "no such file" in refusal("models-genesis", genesis, tmp_path / "missing.json")
    assert "is no plans file" in refusal("models-genesis", genesis, plans.parent / "dataset.json")
    assert "it has no labels" in refusal("models-genesis", genesis, plans, dataset=str(plans))
    message = refusal("models-genesis", genesis, plans, trainer="nnUNetTrainer")
    assert message.startswith("nnUNetTrainer is none of this package's trainers: ")
    assert "nnUNetTrainerSingleInput" in message
    message = refusal("models-genesis", genesis, plans, trainer="nnUNetTrainerPreregistered")
    assert "is for datasets with one mask per case" in message
    plans.write_text("{")
    assert "is no valid JSON" in refusal("models-genesis", genesis, plans)
    plans.write_text("[]")
    assert "must hold names and values" in refusal("models-genesis", genesis, plans)


def test_plans_by_name(genesis: Path, tmp_path: Path, monkeypatch):
    name = "Dataset501_Blobs"
    for kind in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{kind}", str(tmp_path / kind))
        (tmp_path / kind / name).mkdir(parents=True)
    genesis_plans(tmp_path / "preprocessed" / name, PAIRS)
    imported = import_weights(
        "models-genesis", genesis, tmp_path / "start.pth", plans="nnUNetPlans", dataset="501"
    )
    assert (
        imported.target.description == "nnUNetPlans of Dataset501_Blobs, configuration 3d_fullres"
    )
