"""LiverTrainer: the only class that touches nnU-Net's hooks. A named trainer is this class plus one frozen recipe.

What is replaced here and why (nnU-Net 2.8.1):
- `get_dataloaders`: the loader's class is fixed inside; ours is ordered, seeded and samples by marginal class.
- `train_step`, `validation_step`: losses and pseudo Dice are per view.
- `save_checkpoint`, `load_checkpoint`: one more entry in the same file.
- `perform_actual_validation`: the metrics of a pair are those of its marginal classes, not of its codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn
from torch import distributed as dist

from nnunet_liver_ext import __version__
from nnunet_liver_ext.networks.strategies import STRATEGIES, Levels, in_two
from nnunet_liver_ext.pairing import split_codes, split_logits
from nnunet_liver_ext.trainers import progress
from nnunet_liver_ext.trainers.checkpoint import check_version, read_extra, save_with_extra
from nnunet_liver_ext.trainers.data_loading import (
    MarginalForeground,
    OrderedAugmenter,
    SeededDataLoader,
    make_reproducible,
    seed_everything,
)
from nnunet_liver_ext.trainers.dataset_check import check_dataset
from nnunet_liver_ext.trainers.objectives import OBJECTIVES, Objective, View
from nnunet_liver_ext.trainers.recipe import PLANS_KEY, Recipe, resolve
from nnunet_liver_ext.trainers.scores import hard_counts, name_the_summary

INITIALISATION, EPOCH = 0, 1
"""Streams of random numbers of the main process: the initial weights, and what an epoch draws."""


class LiverTrainer(nnUNetTrainer):
    """nnU-Net's trainer for one recipe; sub-classes set `recipe` and nothing else."""

    recipe: Recipe

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        recipe = resolve(self.recipe, plans, configuration)
        self.pair = check_dataset(type(self).__name__, recipe, plans, configuration, dataset_json)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.recipe = recipe
        self.plans_manager.plans[PLANS_KEY] = {"version": __version__, "recipe": recipe.to_json()}
        self.num_epochs = recipe.num_epochs
        self.num_iterations_per_epoch = recipe.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = recipe.num_val_iterations_per_epoch
        self.save_every = recipe.save_every
        self.initial_lr = recipe.initial_lr
        self.weight_decay = recipe.weight_decay
        self.enable_deep_supervision = recipe.deep_supervision
        self.oversample_foreground_percent = recipe.oversample_foreground_percent
        self.probabilistic_oversampling = recipe.probabilistic_oversampling
        self.seed = recipe.seed if recipe.seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
        self.history: progress.History = {}
        self.loaded_checkpoint = "checkpoint_final.pth"
        self.objective: Objective

    # ------------------------------------------------------------------ construction

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The plans' network inside the strategy; nnU-Net calls this on the class at inference.

        There the plans are those saved with the model, and their strategy counts, whatever a later version's default.
        """
        saved = plans_manager.plans.get(PLANS_KEY)
        if saved is not None:
            check_version(saved["version"], "plans.json of the model")
        strategy = STRATEGIES[cls.recipe.strategy if saved is None else saved["recipe"]["strategy"]]

        def build(inputs: int, outputs: int) -> nn.Module:
            return nnUNetTrainer.build_network_architecture(
                plans_manager, configuration_manager, inputs, outputs, enable_deep_supervision
            )

        return strategy.build(build, num_input_channels, num_output_channels)

    def initialize(self) -> None:
        if self.is_ddp:  # without recipe.seed each rank has drawn its own; the checkpoint keeps that of rank 0
            seeds = [self.seed]
            dist.broadcast_object_list(seeds, src=0)
            self.seed = seeds[0]
        self.print_to_log_file(f"Recipe: {self.recipe}; seed {self.seed}")
        seed_everything(self.seed, INITIALISATION)
        super().initialize()
        self.objective = OBJECTIVES[self.recipe.objective](self.loss).to(self.device)

    def _build_loss(self) -> nn.Module:
        loss = super()._build_loss()
        per_level = loss.loss if self.enable_deep_supervision else loss
        per_level.weight_dice, per_level.weight_ce = self.recipe.dice_weight, self.recipe.ce_weight
        return loss

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        parameters, lr, decay = self.network.parameters(), self.initial_lr, self.weight_decay
        optimizer: torch.optim.Optimizer
        if self.recipe.optimizer == "sgd":
            momentum = self.recipe.momentum
            optimizer = torch.optim.SGD(parameters, lr, momentum=momentum, nesterov=momentum > 0, weight_decay=decay)
        else:
            adam = torch.optim.Adam if self.recipe.optimizer == "adam" else torch.optim.AdamW
            optimizer = adam(parameters, lr, weight_decay=decay)
        return optimizer, PolyLRScheduler(optimizer, lr, self.num_epochs, self.recipe.lr_exponent)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, bool, Any, Any]:
        rotation, dummy_2d, initial_patch_size, mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if not self.recipe.mirroring:
            mirror_axes = self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial_patch_size, mirror_axes

    # ------------------------------------------------------------------ data

    def get_dataloaders(self) -> tuple[OrderedAugmenter, OrderedAugmenter]:
        patch_size = self.configuration_manager.patch_size
        scales = self._get_deep_supervision_scales()
        rotation, dummy_2d, initial_patch_size, mirror_axes = (
            self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        labels = {
            "is_cascaded": self.is_cascaded,
            "foreground_labels": self.label_manager.foreground_labels,
            "regions": self.label_manager.foreground_regions if self.label_manager.has_regions else None,
            "ignore_label": self.label_manager.ignore_label,
        }
        use_mask_for_norm = self.configuration_manager.use_mask_for_norm
        training = self.get_training_transforms(
            patch_size, rotation, scales, mirror_axes, dummy_2d, use_mask_for_norm=use_mask_for_norm, **labels
        )
        validation = self.get_validation_transforms(scales, **labels)
        make_reproducible(training)
        data_training, data_validation = self.get_tr_and_val_datasets()
        workers = get_allowed_n_proc_DA()
        return (
            self._loader(0, data_training, initial_patch_size, training, self.num_iterations_per_epoch, workers),
            self._loader(1, data_validation, patch_size, validation, self.num_val_iterations_per_epoch, (workers + 1) // 2),
        )

    def _loader(
        self, stream: int, dataset: Any, patch_size: Any, transforms: Any, iterations: int, workers: int
    ) -> OrderedAugmenter:
        if self.pair is not None:
            dataset = MarginalForeground(dataset, self.pair)
        loader = SeededDataLoader(
            dataset,
            self.batch_size,
            patch_size,
            self.configuration_manager.patch_size,
            self.label_manager,
            oversample_foreground_percent=self.oversample_foreground_percent,
            probabilistic_oversampling=self.probabilistic_oversampling,
            transforms=transforms,
        )
        loader.seed, loader.stream = self.seed, stream + 2 * self.local_rank
        loader.start = self.current_epoch * iterations
        return OrderedAugmenter(loader, workers, pin_memory=self.device.type == "cuda")

    # ------------------------------------------------------------------ steps

    def on_epoch_start(self) -> None:
        seed_everything(self.seed, EPOCH, self.current_epoch, self.local_rank)
        super().on_epoch_start()

    def train_step(self, batch: dict) -> dict[str, Any]:
        data, target = self._on_device(batch["data"]), self._on_device(batch["target"])
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            losses = self.objective.segmentor_loss(self._views(data, self.network(data), target))
        self._step(losses.total)
        return {"loss": losses.total.detach().cpu().numpy(), **_as_numbers(losses.terms)}

    def _step(self, loss: Tensor) -> None:
        """Backward, clipping and one step of the segmentor's optimizer."""
        parameters = self.network.parameters()
        if self.grad_scaler is None:
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, self.recipe.gradient_clip)
            self.optimizer.step()
            return
        self.grad_scaler.scale(loss).backward()
        self.grad_scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(parameters, self.recipe.gradient_clip)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def validation_step(self, batch: dict) -> dict[str, Any]:
        if self.pair is None:
            return super().validation_step(batch)
        data, target = self._on_device(batch["data"]), self._on_device(batch["target"])
        with self._autocast():
            views = self._views(data, self.network(data), target)
            loss = self.objective.segmentor_loss(views).total
        counts = np.concatenate([hard_counts(_finest(view.logits), _finest(view.target)) for view in views], axis=1)
        tp, fp, fn = counts
        return {"loss": loss.cpu().numpy(), "tp_hard": tp, "fp_hard": fp, "fn_hard": fn}

    def _views(self, data: Tensor, output: Any, target: Levels) -> list[View]:
        """The views of a batch, from what the network gives in training (views) or in evaluation (nnU-Net's logits)."""
        if self.pair is None:
            return [View("image", data, output[0], target)]
        logits = output if self.network.training else in_two(split_logits, output)
        num_classes = self.pair.num_classes
        targets = in_two(lambda level: split_codes(level, num_classes), target)
        return [View(name, data[:, i : i + 1], logits[i], targets[i]) for i, name in enumerate(self.pair.modalities)]

    def _on_device(self, tensors: Any) -> Any:
        if isinstance(tensors, list):
            return [self._on_device(tensor) for tensor in tensors]
        return tensors.to(self.device, non_blocking=True)

    def _autocast(self) -> Any:
        """Mixed precision on CUDA only, as in nnU-Net."""
        return torch.autocast("cuda") if self.device.type == "cuda" else nullcontext()

    # ------------------------------------------------------------------ log and picture

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        super().on_train_epoch_end([{"loss": output["loss"]} for output in train_outputs])
        for name in sorted(set(train_outputs[0]) - {"loss"}):
            value = float(np.mean([output[name] for output in train_outputs]))
            self._record(f"training loss: {name}", self._mean_over_ranks(value))

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        super().on_validation_epoch_end(val_outputs)
        scores = self.logger.get_value("dice_per_class_or_region", step=-1)
        for name, score in zip(self._regions(), scores, strict=True):
            self._record(f"pseudo Dice: {name}", float(score))

    def on_epoch_end(self) -> None:
        epoch = self.current_epoch
        latest = [f"{name} {curve[epoch]:.4f}" for name, curve in self.history.items() if len(curve) == epoch + 1]
        self.print_to_log_file("; ".join(latest))
        super().on_epoch_end()
        if self.local_rank == 0:
            progress.draw(self.history, Path(self.output_folder) / "progress_modalities.png")

    def _record(self, name: str, value: float) -> None:
        progress.record(self.history, name, value, self.current_epoch)
        for logger in self.logger.loggers:
            logger.log(name, value, self.current_epoch)

    def _mean_over_ranks(self, value: float) -> float:
        if not self.is_ddp:
            return value
        values: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(values, value)
        return float(np.mean(values))

    def _regions(self) -> dict[str, Any]:
        """nnU-Net's label or region of each class that is scored, by its name."""
        if self.pair is not None:
            return dict(self.pair.regions())
        names = {str(value): name for name, value in self.dataset_json["labels"].items()}
        manager: Any = self.label_manager
        labels = manager.foreground_regions if manager.has_regions else manager.foreground_labels
        return {names.get(str(list(label) if isinstance(label, tuple) else label), str(label)): label for label in labels}

    # ------------------------------------------------------------------ checkpoints

    def save_checkpoint(self, filename: str) -> None:
        if self.local_rank != 0:
            return
        extra = {
            "version": __version__,
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
            "history": self.history,
            "objective": self.objective.state_dict(),
        }
        save_with_extra(Path(filename), super().save_checkpoint, extra)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        path = Path(filename_or_checkpoint)
        extra, changed = read_extra(path, type(self).__name__, self.recipe)
        if changed:
            self.print_to_log_file(f"WARNING: the recipe has changed since {path.name} was written: {'; '.join(changed)}.")
        super().load_checkpoint(str(path))
        self.objective.load_state_dict(extra["objective"])
        self.history = extra["history"]
        if self.recipe.seed is None:
            self.seed = extra["seed"]
        # nnU-Net saves `latest` before it looks whether this epoch was the best one
        self._best_ema = max(self.logger.get_value("ema_fg_dice", step=None), default=None)
        self.loaded_checkpoint = path.name

    def on_train_end(self) -> None:
        super().on_train_end()
        self.loaded_checkpoint = "checkpoint_final.pth"  # of the same weights, whatever training was continued from

    # ------------------------------------------------------------------ final validation

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's final validation; `validation/summary.json` of a pair is by modality and class."""
        with self._marginal_metrics():
            super().perform_actual_validation(save_probabilities)
        if self.local_rank == 0:
            summary = Path(self.output_folder) / "validation" / "summary.json"
            scores = name_the_summary(summary, self._regions(), self.loaded_checkpoint)
            self.print_to_log_file(f"Validation Dice by modality: {scores}")

    @contextmanager
    def _marginal_metrics(self) -> Iterator[None]:
        """nnU-Net computes metrics for the label manager's regions: here the codes of each class of each image."""
        if self.pair is None:
            yield
            return
        manager = self.label_manager
        regions = list(self.pair.regions().values())
        self.label_manager: Any = SimpleNamespace(has_regions=True, foreground_regions=regions, ignore_label=None)
        try:
            yield
        finally:
            self.label_manager = manager


def _finest(levels: Levels) -> Tensor:
    return levels if isinstance(levels, Tensor) else levels[0]


def _as_numbers(terms: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(term.detach()) for name, term in terms.items()}
