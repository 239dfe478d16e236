"""LiverTrainer: the only class that touches nnU-Net's hooks. A named trainer is this class plus one
frozen recipe.

What is replaced here and why (nnU-Net 2.8.1):
- `get_dataloaders`: the loader's class is fixed inside; ours is ordered, seeded and samples by
  marginal class.
- `train_step`, `validation_step`: losses and pseudo Dice are per view, and there may be a second
  player.
- `save_checkpoint`, `load_checkpoint`: one more entry in the same file.
- `perform_actual_validation`: the metrics of a pair are those of its marginal classes, not of its
  codes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn
from torch import distributed as dist

from nnunet_liver_ext import __version__
from nnunet_liver_ext.dataset_json.incomplete import IncompleteCases
from nnunet_liver_ext.dataset_json.organ_mask import OrganMask
from nnunet_liver_ext.errors import InputError, NonFiniteLoss
from nnunet_liver_ext.networks.strategies import STRATEGIES, unwrapped
from nnunet_liver_ext.trainers import progress
from nnunet_liver_ext.trainers.checkpoint import check_version, read_extra, save_with_extra
from nnunet_liver_ext.trainers.companion import Companion, check_companion
from nnunet_liver_ext.trainers.data.loaders import make_loaders
from nnunet_liver_ext.trainers.data.ordered_batches import OrderedAugmenter, seed_everything
from nnunet_liver_ext.trainers.dataset_check import check_dataset
from nnunet_liver_ext.trainers.final_validation import validate_whole_volumes
from nnunet_liver_ext.trainers.objectives import OBJECTIVES, Losses, Objective, VoxelLoss, task_of
from nnunet_liver_ext.trainers.objectives.views import (
    NOT_COUNTED,
    Annotations,
    View,
    concatenate_views,
    finest_level,
    make_views,
)
from nnunet_liver_ext.trainers.phases import (
    BOTH,
    COMPANION,
    IN_WORDS,
    SEGMENTOR,
    Phase,
    PhaseSchedule,
    find_phase,
    plan_phases,
)
from nnunet_liver_ext.trainers.players import (
    autocast,
    frozen,
    losses_to_numbers,
    make_optimizer,
    optimizer_step,
)
from nnunet_liver_ext.trainers.recipe import PLANS_KEY, Recipe, resolve
from nnunet_liver_ext.trainers.scores import (
    hard_counts,
    mean_of_figures,
    name_the_summary,
    region_counts,
)
from nnunet_liver_ext.trainers.turns import Turns
from nnunet_liver_ext.trainers.warm_start import find_checkpoint, start_companion, start_segmentor

MOST_EXAMINED = 20
"""Validation batches on which a companion is examined thoroughly."""
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
        self.organ = OrganMask.from_dataset_json(dataset_json)
        self.incomplete = IncompleteCases.from_dataset_json(dataset_json)
        kind = OBJECTIVES[recipe.objective]
        self.phases = plan_phases(
            recipe,
            has_companion=kind.has_companion,
            warmup_share=kind.warmup_share,
            companion_share=kind.companion_share,
        )
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.recipe = recipe
        self.plans_manager.plans[PLANS_KEY] = {"version": __version__, "recipe": recipe.to_json()}
        self.num_epochs = recipe.num_epochs
        self.num_iterations_per_epoch = recipe.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = recipe.num_val_iterations_per_epoch
        self.turns = Turns.of(recipe, self.configuration_manager.batch_size)
        self.save_every = recipe.save_every
        self.initial_lr = recipe.initial_lr
        self.weight_decay = recipe.weight_decay
        self.enable_deep_supervision = recipe.deep_supervision
        self.oversample_foreground_percent = recipe.oversample_foreground_percent
        self.probabilistic_oversampling = recipe.probabilistic_oversampling
        self.seed = (
            recipe.seed
            if recipe.seed is not None
            else int(np.random.SeedSequence().generate_state(1)[0])
        )
        self._best_ema: float | None = None
        self.history: progress.History = {}
        self.loaded_checkpoint = "checkpoint_final.pth"
        self.objective: Objective
        self.examined = 0
        self.companion: Companion | None = None
        self._said_what_is_left_out = False
        self.kept_best = False

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
        if (
            self.is_ddp
        ):  # without recipe.seed each rank has drawn its own; the checkpoint keeps that of rank 0
            seeds = [self.seed]
            dist.broadcast_object_list(seeds, src=0)
            self.seed = seeds[0]
        threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
        if self.device.type == "cpu" and threads.isdigit():
            torch.set_num_threads(
                max(1, int(threads))
            )  # nnUNetv2_train takes all cores, whoever else is there
        if self.is_ddp and self.incomplete and "specialized" in self.recipe.strategy:
            raise InputError(
                f"{type(self).__name__}: with incomplete pairs a rank may have nothing to teach one"
                " of its networks; train it on one GPU."
            )
        self.print_to_log_file(f"Recipe: {self.recipe}; seed {self.seed}")
        seed_everything(self.seed, INITIALISATION)
        super().initialize()
        task = task_of(
            self.recipe, self.plans_manager, self.configuration_manager, self.dataset_json
        )
        self.objective = OBJECTIVES[self.recipe.objective](
            task, VoxelLoss.of(self.recipe, self._weighted_loss)
        ).to(self.device)
        if self.objective.companion is not None:
            self.print_to_log_file(f"Companion network: {self.objective.describe()}")
            self.companion = Companion(
                self.objective,
                self.objective.companion,
                self.recipe,
                self.phases,
                device=self.device,
                mixed_precision=self.grad_scaler is not None,
                distributed=self.is_ddp,
                compiled=self._do_i_compile(),
            )

    def _build_loss(self) -> nn.Module:
        return self._weighted_loss(self.recipe.dice_weight, self.recipe.ce_weight)

    def _weighted_loss(self, dice: float, ce: float) -> nn.Module:
        """nnU-Net's loss with other weights, of its terms and, where the network says so, of its
        outputs."""
        supervised = self.enable_deep_supervision
        weights = unwrapped(self.network).supervision_weights if supervised else None
        self.enable_deep_supervision = supervised and weights is None
        loss = super()._build_loss()
        per_level = loss.loss if self.enable_deep_supervision else loss
        self.enable_deep_supervision = supervised
        per_level.weight_dice, per_level.weight_ce = dice, ce
        if self.organ is not None:
            per_level.ignore_label = per_level.ce.ignore_index = NOT_COUNTED
        return loss if weights is None else DeepSupervisionWrapper(per_level, weights)

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        own = unwrapped(self.network).supervised_scales if self.enable_deep_supervision else None
        return super()._get_deep_supervision_scales() if own is None else own

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
        training, validation = (list(cases) for cases in super().do_split())
        if not self.incomplete or STRATEGIES[self.recipe.strategy].takes_lone_images:
            return training, validation
        usable = self.incomplete.complete(training), self.incomplete.complete(validation)
        left_out = len(training) - len(usable[0]), len(validation) - len(usable[1])
        if any(left_out) and not self._said_what_is_left_out:
            self._said_what_is_left_out = True
            self.print_to_log_file(
                f"Incomplete pairs are left out, because {type(self).__name__} needs both images"
                f" and both masks: {left_out[0]} of {len(training)} training cases, {left_out[1]}"
                f" of {len(validation)} validation cases."
            )
        for cases, what in zip(usable, ("training", "validation"), strict=True):
            if not cases:
                raise InputError(
                    f"{type(self).__name__} needs both images and both masks, which no {what} case"
                    f" of fold {self.fold} has."
                )
        return usable

    def batches_used(self) -> int:
        """Training batches of all earlier epochs, whatever their phases."""
        phases = (find_phase(self.phases, epoch) for epoch in range(self.current_epoch))
        return self.num_iterations_per_epoch * sum(
            self.turns.batches(phase.name) for phase in phases
        )

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
        recipe, fold, lines = self.recipe, self.fold, []
        if recipe.segmentor_checkpoint is not None:
            path = find_checkpoint(recipe.segmentor_checkpoint, fold)
            lines += start_segmentor(unwrapped(self.network), path, recipe, fold)
        if recipe.companion_checkpoint is not None and self.companion is not None:
            path = find_checkpoint(recipe.companion_checkpoint, fold)
            lines += start_companion(self.objective, path, recipe, fold)
        for line in lines:
            self.print_to_log_file(line)

    def on_epoch_start(self) -> None:
        seed_everything(self.seed, EPOCH, self.current_epoch, self.local_rank)
        super().on_epoch_start()

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.objective.train()
        if self.companion is not None:
            self.companion.schedule.step(self.current_epoch)
            self.print_to_log_file(f"Phase: {self.phase}")
            if self.phase.name != SEGMENTOR:
                self.print_to_log_file(
                    f"Learning rate of the companion network: {self.companion.learning_rate:.3g}"
                )

    def train_step(self, batch: dict) -> dict[str, Any]:
        try:
            played = self._play(batch)
        except FloatingPointError as error:
            raise NonFiniteLoss(str(error), math.nan, self.current_epoch) from None
        numbers = losses_to_numbers(played, self.current_epoch)
        return {"loss": np.array(numbers.pop("total")), **numbers}

    def _play(self, batch: dict) -> list[Losses]:
        """One iteration: the steps of the players of this phase, the segmentor's last."""
        phase, companion = self.phase, self.companion
        if companion is None or phase.name == SEGMENTOR:
            return [self._segmentor_step(self._forward(batch))]
        if phase.name == COMPANION:
            return [companion.step(self._seen_by_companion(batch), phase)]
        if self.turns.on_one_batch(phase.name):
            views = self._forward(batch)
            return [companion.step(views, phase), self._segmentor_step(views)]
        played = []
        for step in range(self.turns.companion_steps + self.turns.segmentor_steps):
            batch = next(self.dataloader_train) if step > 0 else batch
            if step < self.turns.companion_steps:
                played.append(companion.step(self._seen_by_companion(batch), phase))
            else:
                played.append(self._segmentor_step(self._forward(batch)))
        return played

    def _forward(self, batch: dict, *, without_segmentor: bool = False) -> list[View]:
        data, target = self._on_device(batch["data"]), self._on_device(batch["target"])
        with autocast(self.device), unwrapped(self.network).as_in_training():
            output = None if without_segmentor else self.network(data)
            joint = not self.network.training
            annotated = self._annotated(batch.get("keys", ()))
            annotations = Annotations(annotated, self.organ is not None, self._organ_dilation)
            return make_views(self.pair, data, output, target, joint=joint, annotations=annotations)

    def _annotated(self, cases: Sequence[str]) -> list[list[bool]] | None:
        """Of each image which of these cases have its mask; None if all have all."""
        return None if self.pair is None else self.incomplete.annotated(cases, self.pair.modalities)

    @property
    def _organ_dilation(self) -> tuple[int, ...] | None:
        """Radius in voxels, (z, y, x), by which the organ mask is dilated for the loss; slices stay
        as they are in configurations that do not know their distance."""
        if self.organ is None or self.recipe.organ_dilation_mm is None:
            return None
        spacing = self.configuration_manager.spacing
        radii = [round(self.recipe.organ_dilation_mm / mm) for mm in spacing]
        return (0,) * (len(self.configuration_manager.patch_size) - len(radii)) + tuple(radii)

    def _seen_by_companion(self, batch: dict) -> list[View]:
        """The views without a graph; without a segmentor where the companion learns from
        annotations alone."""
        alone = self.phase.name == COMPANION and self.objective.companion_learns_from_annotations
        rest = (next(self.dataloader_train) for _ in range(self.turns.companion_batches - 1))
        with torch.no_grad():
            return concatenate_views(
                [self._forward(part, without_segmentor=alone) for part in (batch, *rest)]
            )

    def _segmentor_step(self, views: Sequence[View]) -> Losses:
        with frozen(self.objective.companion):
            with autocast(self.device):
                losses = self.objective.segmentor_loss(views, self.phase.name)
            clip = self.recipe.gradient_clip
            optimizer_step(
                losses.total, self.network.parameters(), self.optimizer, self.grad_scaler, clip=clip
            )
        return losses

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.objective.eval()
        self.examined = 0

    def validation_step(self, batch: dict) -> dict[str, Any]:
        views = self._forward(batch)
        with autocast(self.device):
            if self.phase.name == COMPANION:
                losses = self.objective.companion_loss(views, COMPANION)
            else:
                losses = self.objective.segmentor_loss(views, self.phase.name)
            figures = {} if self.phase.name == SEGMENTOR else self._examine(views)
        tp, fp, fn = self._counts(views)
        numbers = {name: float(value) for name, value in figures.items()}
        return {
            "loss": losses.total.cpu().numpy(),
            "tp_hard": tp,
            "fp_hard": fp,
            "fn_hard": fn,
            **numbers,
        }

    def _counts(self, views: Sequence[View]) -> np.ndarray:
        """True positives, false positives, false negatives of each class of each image, (3, M · (K
        − 1))."""
        manager = self.label_manager
        if manager.has_regions:
            (view,) = views
            return region_counts(
                finest_level(view.logits), view.labels, ignored=manager.has_ignore_label
            )
        found = {
            view.name: hard_counts(finest_level(view.logits), view.labels, manager.ignore_label)
            for view in views
        }
        names = (
            [None] if self.pair is None else self.pair.modalities
        )  # a batch may have no mask of an image
        empty = np.zeros_like(next(iter(found.values())))
        return np.concatenate([found.get(name or "image", empty) for name in names], axis=1)

    def _examine(self, views: Sequence[View]) -> dict[str, Tensor]:
        thoroughly = self._companion_must_show
        self.examined += 1
        if thoroughly and self.examined > MOST_EXAMINED:
            return {}
        return self.objective.examine(views, thoroughly=thoroughly)

    @property
    def _companion_must_show(self) -> bool:
        """Whether this epoch's validation tells what the companion is worth: before, or when, it
        begins to teach."""
        if self.phase.name == COMPANION:
            return self.current_epoch == self.phase.end - 1
        return (
            self.phase.name == BOTH and self.current_epoch == self.phase.first and self._never_alone
        )

    @property
    def _never_alone(self) -> bool:
        return COMPANION not in {phase.name for phase in self.phases}

    def _on_device(self, tensors: Any) -> Any:
        if isinstance(tensors, list):
            return [self._on_device(tensor) for tensor in tensors]
        return tensors.to(self.device, non_blocking=True)

    # ------------------------------------------------------------------ log and picture

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        super().on_train_epoch_end([{"loss": output["loss"]} for output in train_outputs])
        self._record_means(train_outputs, leave_out={"loss"})

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        of_nnunet = {"loss", "tp_hard", "fp_hard", "fn_hard"}
        super().on_validation_epoch_end(
            [{key: output[key] for key in of_nnunet} for output in val_outputs]
        )
        self._correct_moving_average()
        scores = self.logger.get_value("dice_per_class_or_region", step=-1)
        for name, score in zip(self._regions(), scores, strict=True):
            self._record(f"pseudo Dice: {name}", float(score))
        figures = self._record_means(val_outputs, leave_out=of_nnunet)
        if self._companion_must_show:
            for line in self.objective.verdict(figures):
                self.print_to_log_file(line)

    def _correct_moving_average(self) -> None:
        """nnU-Net's moving average, which knows the best epoch, begins anew with the last phase and
        forgets what is nan."""
        moving_average = self.logger.get_value("ema_fg_dice", step=None)
        dice = self.logger.get_value("mean_fg_dice", step=-1)
        previous = moving_average[-2] if len(moving_average) > 1 else math.nan
        last_phase_begins = self.current_epoch == self.phases[-1].first
        if last_phase_begins or self.recipe.best_by == "epoch" or math.isnan(previous):
            moving_average[-1] = dice
        elif math.isnan(dice):
            moving_average[-1] = previous

    def _record_means(self, outputs: list[dict], leave_out: set[str]) -> dict[str, float]:
        """Records the mean over all batches and ranks of every figure, and returns it."""
        means = mean_of_figures(outputs, leave_out)
        if self.is_ddp:
            of_ranks: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(of_ranks, means)
            means = mean_of_figures(of_ranks, set())
        for name, value in means.items():
            self._record(name, value)
        return means

    def on_epoch_end(self) -> None:
        epoch = self.current_epoch
        latest = [
            f"{name} {curve[epoch]:.4f}"
            for name, curve in self.history.items()
            if len(curve) == epoch + 1
        ]
        self.print_to_log_file("; ".join(latest))
        if self.phase is not self.phases[-1]:
            self._best_ema = float(
                "inf"
            )  # only the last phase trains what is wanted, so only it has a best epoch
        super().on_epoch_end()
        no_score = self._best_ema is not None and math.isnan(self._best_ema)
        if no_score or epoch == self.phases[-1].first - 1:
            self._best_ema = None
        if self.local_rank == 0:
            progress.draw(
                self.history, Path(self.output_folder) / "progress_modalities.png", self.phases
            )

    def _record(self, name: str, value: float) -> None:
        progress.record(self.history, name, value, self.current_epoch)
        for logger in self.logger.loggers:
            logger.log(name, value, self.current_epoch)

    def _regions(self) -> dict[str, Any]:
        """nnU-Net's label or region of each class that is scored, by its name."""
        if self.pair is not None:
            return dict(self.pair.regions())
        names = {str(value): name for name, value in self.dataset_json["labels"].items()}
        manager: Any = self.label_manager
        labels = manager.foreground_regions if manager.has_regions else manager.foreground_labels
        return {
            names.get(str(list(label) if isinstance(label, tuple) else label), str(label)): label
            for label in labels
        }

    # ------------------------------------------------------------------ checkpoints

    def save_checkpoint(self, filename: str) -> None:
        if self.local_rank != 0:
            return
        extra = {
            "version": __version__,
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
            "history": self.history,
            "phase": self.phase.name,
            "objective": self.objective.state_dict(),
            "kept_best": self.kept_best,
            "companion": None if self.companion is None else self.companion.state_dict(),
        }
        save_with_extra(Path(filename), super().save_checkpoint, extra)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        path = Path(filename_or_checkpoint)
        has_companion = OBJECTIVES[self.recipe.objective].has_companion
        extra, changed = read_extra(path, type(self).__name__, self.recipe, companion=has_companion)
        if changed:
            self.print_to_log_file(
                f"WARNING: the recipe has changed since {path.name} was written:"
                f" {'; '.join(changed)}."
            )
        self._check_phase(path, extra)
        if extra.get("kept_best", False) and extra["epochs"] < self.num_epochs:
            raise InputError(
                f"{path}: is the best state of a finished training, not its last one, so it cannot"
                " be trained on; train anew, or start from it with segmentor_checkpoint."
            )
        if not self.was_initialized:
            self.initialize()
        check_companion(self.objective, extra, path)
        super().load_checkpoint(str(path))
        self.objective.load_state_dict(extra["objective"])
        if self.companion is not None:
            self.companion.load_state_dict(extra["companion"])
        self.history = extra["history"]
        if self.recipe.seed is None:
            self.seed = extra["seed"]
        # nnU-Net saves `latest` before it looks whether this epoch was the best one
        in_last_phase = self.logger.get_value("ema_fg_dice", step=None)[
            self.phases[-1].first : self.current_epoch
        ]
        self._best_ema = max(
            (value for value in in_last_phase if not math.isnan(value)), default=None
        )
        self.loaded_checkpoint, self.kept_best = path.name, extra.get("kept_best", False)

    def _check_phase(self, path: Path, extra: Mapping[str, Any]) -> None:
        """InputError if other numbers have moved the phases away from where the checkpoint is."""
        trained = extra["epochs"]
        before, now = extra.get("phase", SEGMENTOR), find_phase(self.phases, trained - 1).name
        if before != now:
            raise InputError(
                f"{path}: its last epoch ({trained - 1}) trained {IN_WORDS[before]}, with these"
                f" numbers it would have trained {IN_WORDS[now]}: set warmup_epochs and"
                " companion_epochs to what they were."
            )

    def on_train_end(self) -> None:
        if self.recipe.keep == "best":
            self._keep_the_best()
        super().on_train_end()
        self.loaded_checkpoint = (  # of the same weights, whatever training was continued from
            "checkpoint_final.pth"
        )

    def _keep_the_best(self) -> None:
        best = Path(self.output_folder) / "checkpoint_best.pth"
        if self._best_ema is None or self.disable_checkpointing or not best.is_file():
            self.print_to_log_file(
                "WARNING: no epoch of this training has a score, or none was saved; the last state"
                " is kept."
            )
            return
        self._take_weights_of(best)
        self.kept_best = True

    def _take_weights_of(self, path: Path) -> None:
        """Ends the training with the weights of its best epoch."""
        if self.is_ddp:
            dist.barrier()  # rank 0 has written it
        checkpoint = torch.load(path, map_location=self.device, weights_only=False)
        unwrapped(self.network).load_state_dict(checkpoint["network_weights"])
        self.objective.load_state_dict(checkpoint[PLANS_KEY]["objective"])
        self.print_to_log_file(
            f"The state after epoch {checkpoint['current_epoch'] - 1} was the best one and is kept."
        )

    # ------------------------------------------------------------------ final validation

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's final validation; `validation/summary.json` of a pair is by modality and
        class."""
        with self._marginal_metrics():
            if unwrapped(self.network).whole_volume:
                validate_whole_volumes(self, save_probabilities)
            else:
                super().perform_actual_validation(save_probabilities)
        if self.local_rank == 0:
            summary = Path(self.output_folder) / "validation" / "summary.json"
            scores = name_the_summary(
                summary,
                self._regions(),
                self.loaded_checkpoint,
                self._unmeasurable(),
                kept_best=self.kept_best,
            )
            self.print_to_log_file(f"Validation Dice by modality: {scores}")

    def _unmeasurable(self) -> dict[str, set[str]]:
        return {} if self.pair is None else self.incomplete.unmeasurable(self.pair)

    @contextmanager
    def _marginal_metrics(self) -> Iterator[None]:
        """nnU-Net computes metrics for the label manager's regions: here the codes of each class of
        each image."""
        if self.pair is None:
            yield
            return
        manager = self.label_manager
        regions = list(self.pair.regions().values())
        self.label_manager: Any = SimpleNamespace(
            has_regions=True, foreground_regions=regions, ignore_label=None
        )
        try:
            yield
        finally:
            self.label_manager = manager
