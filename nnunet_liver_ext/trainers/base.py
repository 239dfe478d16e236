"""LiverTrainer: the only class that touches nnU-Net's hooks; a sub-class sets a recipe.

What is replaced here and why (nnU-Net 2.8.1):
- `get_dataloaders`: the loader's class is fixed inside; ours is ordered, seeded and samples by
  marginal class.
- `train_step`, `validation_step`: losses and pseudo Dice are per view, and there may be a second
  player.
- `save_checkpoint`, `load_checkpoint`: one more entry in the same file.
- `logger.local_logger`: draws its picture, and ours, only as often as that is cheap.
- `perform_actual_validation`: the metrics of a pair are those of its marginal classes, not of its
  codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunet_liver_ext import __version__
from nnunet_liver_ext.checkpoint_files import restricted_loading
from nnunet_liver_ext.dataset_json.incomplete import IncompleteCases
from nnunet_liver_ext.dataset_json.organ_mask import OrganMask
from nnunet_liver_ext.environment import is_trusted
from nnunet_liver_ext.errors import NonFiniteLoss
from nnunet_liver_ext.folder_lock import FolderLock
from nnunet_liver_ext.losses.voxel_terms import NOT_COUNTED
from nnunet_liver_ext.networks.strategies import STRATEGIES, unwrap
from nnunet_liver_ext.trainers import progress
from nnunet_liver_ext.trainers.checkpoint import (
    check_not_kept_best,
    check_phase,
    check_version,
    describe_state,
    read_extra,
    restore_state,
    save_with_extra,
)
from nnunet_liver_ext.trainers.companion import Companion, check_companion
from nnunet_liver_ext.trainers.data.loaders import make_loaders
from nnunet_liver_ext.trainers.data.ordered_batches import OrderedAugmenter, seed_everything
from nnunet_liver_ext.trainers.data.usable_cases import find_usable_cases
from nnunet_liver_ext.trainers.dataset_check import check_dataset
from nnunet_liver_ext.trainers.final_validation import (
    marginal_metrics,
    name_the_scores,
    validate_whole_volumes,
)
from nnunet_liver_ext.trainers.game import Game, build_voxel_loss, objective_setup
from nnunet_liver_ext.trainers.kept_state import keep_best_state
from nnunet_liver_ext.trainers.make_game import describe_organ_dilation, make_game
from nnunet_liver_ext.trainers.objectives import OBJECTIVES, Objective, VoxelLoss
from nnunet_liver_ext.trainers.objectives.views import View
from nnunet_liver_ext.trainers.overrides import resolve
from nnunet_liver_ext.trainers.phases import (
    COMPANION,
    SEGMENTOR,
    Phase,
    PhaseSchedule,
    find_phase,
    plan_phases,
    shows_companion,
)
from nnunet_liver_ext.trainers.players import autocast, losses_to_numbers, make_optimizer
from nnunet_liver_ext.trainers.processes import (
    check_ranks,
    draw_seed,
    respect_omp_num_threads,
    share_seed,
)
from nnunet_liver_ext.trainers.recipe import NUMBERS_OF_NNUNET, PLANS_KEY, Recipe
from nnunet_liver_ext.trainers.scores import (
    best_score,
    correct_moving_average,
    count_hits,
    mean_over_ranks,
    regions_by_name,
)
from nnunet_liver_ext.trainers.turns import Turns
from nnunet_liver_ext.trainers.warm_start import start_from_checkpoints
from nnunet_liver_ext.trainers.whole_images import MEASURES, score_epoch

MOST_EXAMINED = 20
"""Validation batches on which a companion is examined thoroughly."""
INITIALISATION, EPOCH = 0, 1
"""Streams of random numbers of the main process: the initial weights, and what an epoch draws."""
OF_NNUNET = {"loss", "tp_hard", "fp_hard", "fn_hard"}
"""What nnU-Net takes of a validation step."""


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
        self.organ = OrganMask.from_dataset_json(dataset_json)
        self.incomplete = IncompleteCases.from_dataset_json(dataset_json)
        self.phases = plan_phases(recipe)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.recipe = recipe
        self.plans_manager.plans[PLANS_KEY] = {"version": __version__, "recipe": recipe.to_json()}
        for name in NUMBERS_OF_NNUNET:
            setattr(self, name, getattr(recipe, name))
        self.enable_deep_supervision = recipe.deep_supervision
        if recipe.batch_dice is not None:
            self.configuration_manager.configuration["batch_dice"] = recipe.batch_dice
        self.turns = Turns.from_recipe(recipe, self.configuration_manager.batch_size)
        self.seed = draw_seed() if recipe.seed is None else recipe.seed
        self._best_ema: float | None = None
        self.history: progress.History = {}
        self.logger.local_logger = progress.SparingLogger(
            lambda picture: progress.draw(self.history, picture, self.phases)
        )
        self.loaded_checkpoint = "checkpoint_final.pth"
        self.objective: Objective
        self.examined = 0
        self.companion: Companion | None = None
        self._said_what_is_left_out = False
        self.kept_best = False
        self.fold_lock: FolderLock

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

        There the plans are those saved with the model, and their strategy counts, whatever a later
        version's default.
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
        if self.is_ddp:
            self.seed = share_seed(self.seed)
            check_ranks(type(self).__name__, self.recipe, self.incomplete)
        if self.local_rank == 0:  # for all ranks, before any writes
            self.fold_lock = FolderLock(Path(self.output_folder), self.print_to_log_file)
        if self.device.type == "cpu":
            respect_omp_num_threads()
        self.print_to_log_file(f"Recipe: {self.recipe}; seed {self.seed}")
        if where_loss_counts := describe_organ_dilation(self):
            self.print_to_log_file(where_loss_counts)
        seed_everything(self.seed, INITIALISATION)
        super().initialize()
        setup = objective_setup(
            self.recipe, self.plans_manager, self.configuration_manager, self.dataset_json
        )
        self.objective = OBJECTIVES[self.recipe.objective](setup, self.loss).to(self.device)
        if self.objective.companion is not None:
            self.print_to_log_file(f"Companion network: {self.objective.describe()}")
            self.companion = Companion.from_trainer(self, self.objective.companion)

    def _build_loss(self) -> VoxelLoss:
        weights = unwrap(self.network).supervision_weights
        if not self.enable_deep_supervision or weights is None:
            return build_voxel_loss(self.recipe, self._build_nnunet_loss)
        self.enable_deep_supervision = False
        loss = build_voxel_loss(self.recipe, self._build_nnunet_loss, weights)
        self.enable_deep_supervision = True
        return loss

    def _build_nnunet_loss(self) -> nn.Module:
        loss = super()._build_loss()
        if self.organ is not None:
            for_one_level = getattr(loss, "loss", loss)
            for_one_level.ignore_label = for_one_level.ce.ignore_index = NOT_COUNTED
        return loss

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        scales = unwrap(self.network).supervised_scales if self.enable_deep_supervision else None
        return super()._get_deep_supervision_scales() if scales is None else scales

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PhaseSchedule]:
        recipe = self.recipe
        optimizer = make_optimizer(
            recipe.optimizer,
            self.network.parameters(),
            lr=self.initial_lr,
            momentum=recipe.momentum,
            weight_decay=self.weight_decay,
        )
        rates = (self.initial_lr, recipe.joint_lr, recipe.lr_exponent, recipe.lr_drop_epoch)
        return optimizer, PhaseSchedule(optimizer, self.phases, *rates)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(
        self,
    ) -> tuple[Any, bool, Any, Any]:
        rotation, dummy_2d, initial_patch_size, mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if not self.recipe.mirroring:
            mirror_axes = self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial_patch_size, mirror_axes

    # ------------------------------------------------------------------ data

    def get_dataloaders(self) -> tuple[OrderedAugmenter, OrderedAugmenter]:
        return make_loaders(self)

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's split, without pairs that this strategy cannot use."""
        usable, message = find_usable_cases(
            super().do_split(),
            self.incomplete,
            self.recipe.strategy,
            type(self).__name__,
            self.fold,
        )
        if message and not self._said_what_is_left_out:
            self._said_what_is_left_out = True
            self.print_to_log_file(message)
        return usable

    def batches_used(self) -> int:
        """Training batches of all earlier epochs, whatever their phases."""
        phases = (find_phase(self.phases, epoch).name for epoch in range(self.current_epoch))
        return self.num_iterations_per_epoch * sum(map(self.turns.batches, phases))

    # ------------------------------------------------------------------ steps

    @property
    def phase(self) -> Phase:
        return find_phase(self.phases, self.current_epoch)

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        if self.current_epoch == 0:  # before anything is written
            self._start_from_trained_networks()
        super().on_train_start()

    def _start_from_trained_networks(self) -> None:
        network = unwrap(self.network)
        for line in start_from_checkpoints(network, self.objective, self.recipe, self.fold):
            self.print_to_log_file(line)

    def on_epoch_start(self) -> None:
        seed_everything(self.seed, EPOCH, self.current_epoch, self.local_rank)
        super().on_epoch_start()

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.objective.train()
        if self.companion is not None:
            for line in self.companion.begin_epoch(self.current_epoch, self.phase):
                self.print_to_log_file(line)

    @property
    def game(self) -> Game:
        """The players as they are now, and how they take their steps."""
        return make_game(self)

    def train_step(self, batch: dict) -> dict[str, Any]:
        try:
            played = self.game.play(batch, self.phase.name, lambda: next(self.dataloader_train))
        except FloatingPointError as error:
            raise NonFiniteLoss(str(error), math.nan, self.current_epoch) from None
        numbers = losses_to_numbers(played, self.current_epoch)
        return {"loss": np.array(numbers.pop("total")), **numbers}

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.objective.eval()
        self.examined = 0

    def validation_step(self, batch: dict) -> dict[str, Any]:
        views = self.game.views(batch)
        with autocast(self.device):
            if self.phase.name == COMPANION:
                losses = self.objective.companion_loss(views, COMPANION)
            else:
                losses = self.objective.segmentor_loss(views, self.phase.name)
            figures = {} if self.phase.name == SEGMENTOR else self._examine(views)
        tp, fp, fn = count_hits(views, self.pair, self.label_manager)
        numbers = {name: float(value) for name, value in figures.items()}
        loss = losses.total.cpu().numpy()
        return {"loss": loss, "tp_hard": tp, "fp_hard": fp, "fn_hard": fn, **numbers}

    def _examine(self, views: Sequence[View]) -> dict[str, Tensor]:
        thoroughly = shows_companion(self.phases, self.current_epoch)
        self.examined += 1
        if thoroughly and self.examined > MOST_EXAMINED:
            return {}
        return self.objective.examine(views, thoroughly=thoroughly)

    # ------------------------------------------------------------------ log and picture

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        super().on_train_epoch_end([{"loss": output["loss"]} for output in train_outputs])
        self._record_means(train_outputs, leave_out={"loss"})

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        super().on_validation_epoch_end(
            [{key: output[key] for key in OF_NNUNET} for output in val_outputs]
        )
        best_by, first = self.recipe.best_by, self.phases[-1].first
        correct_moving_average(
            self.logger.get_value("ema_fg_dice", step=None),
            score_epoch(self)
            if best_by in MEASURES
            else self.logger.get_value("mean_fg_dice", step=-1),
            restart=best_by != "moving_average" or self.current_epoch == first,
        )
        scores = self.logger.get_value("dice_per_class_or_region", step=-1)
        for name, score in zip(regions_by_name(self), scores, strict=True):
            self._record(f"pseudo Dice: {name}", float(score))
        figures = self._record_means(val_outputs, leave_out=OF_NNUNET)
        if shows_companion(self.phases, self.current_epoch):
            for line in self.objective.verdict(figures):
                self.print_to_log_file(line)

    def _record_means(self, outputs: list[dict], leave_out: set[str]) -> dict[str, float]:
        means = mean_over_ranks(outputs, leave_out, distributed=self.is_ddp)
        for name, value in means.items():
            self._record(name, value)
        return means

    def on_epoch_end(self) -> None:
        epoch, last_phase = self.current_epoch, self.phases[-1]
        self.print_to_log_file(progress.latest_values(self.history, epoch))
        if self.local_rank == 0:
            self.fold_lock.hold_on()
        if self.phase is not last_phase:
            # only the last phase trains what is wanted, so only it has a best epoch
            self._best_ema = float("inf")
        super().on_epoch_end()
        no_score = self._best_ema is not None and math.isnan(self._best_ema)
        if no_score or epoch == last_phase.first - 1:
            self._best_ema = None

    def _record(self, name: str, value: float) -> None:
        progress.record(self.history, name, value, self.current_epoch)
        for logger in self.logger.loggers:
            logger.log(name, value, self.current_epoch)

    # ------------------------------------------------------------------ checkpoints

    def save_checkpoint(self, filename: str) -> None:
        if self.local_rank != 0:
            return
        save_with_extra(Path(filename), super().save_checkpoint, describe_state(self))

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        path = Path(filename_or_checkpoint)
        has_companion = OBJECTIVES[self.recipe.objective].has_companion
        extra, changed = read_extra(path, type(self).__name__, self.recipe, companion=has_companion)
        if changed:
            self.print_to_log_file(
                f"WARNING: the recipe has changed since {path.name} was written:"
                f" {'; '.join(changed)}."
            )
        check_phase(path, extra, self.phases)
        check_not_kept_best(path, extra, self.num_epochs)
        if not self.was_initialized:
            self.initialize()
        check_companion(self.objective, extra, path)
        with restricted_loading(trust=is_trusted()):
            super().load_checkpoint(str(path))
        restore_state(self, extra)
        # nnU-Net saves `latest` before it looks whether this epoch was the best one
        moving_average = self.logger.get_value("ema_fg_dice", step=None)
        self._best_ema = best_score(moving_average, self.phases[-1].first, self.current_epoch)
        self.loaded_checkpoint = path.name

    def on_train_end(self) -> None:
        if self.recipe.keep == "best":
            self.kept_best = keep_best_state(self, has_score=self._best_ema is not None)
        if self.local_rank == 0:
            self.logger.local_logger.draw_news(self.output_folder)
        super().on_train_end()
        # the same weights, whatever training was continued from
        self.loaded_checkpoint = "checkpoint_final.pth"

    # ------------------------------------------------------------------ final validation

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's final validation; a pair's summary.json is by modality and class."""
        with marginal_metrics(self):
            if unwrap(self.network).whole_volume:
                validate_whole_volumes(self, save_probabilities)
            else:
                super().perform_actual_validation(save_probabilities)
        if self.local_rank == 0:
            self.print_to_log_file(f"Validation Dice by modality: {name_the_scores(self)}")
