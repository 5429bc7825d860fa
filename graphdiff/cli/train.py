"""``graphdiff train``."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from graphdiff.cli.arguments import (
    Features,
    Option,
    Root,
    Setting,
    SettingsFile,
    given_options,
    import_dataset,
    import_model,
    model_settings,
    tuned_settings,
)
from graphdiff.cli.output import print_metrics
from graphdiff.cli.score import Address, Engine, EngineOption, Gpus
from graphdiff.cli.training_options import (
    DEFAULTS,
    Accelerator,
    Epochs,
    EvalEvery,
    MaxMinutes,
    MinSteps,
    Monitor,
    Patience,
    Seed,
    setting,
)
from graphdiff.console import print_text
from graphdiff.errors import ConfigError, Interrupted
from graphdiff.options import dataset_options
from graphdiff.training.config import TrainingConfig, run_config


def train(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="The RUN folder to write.")] = None,
    dataset: Annotated[str, typer.Option(help="Name of the dataset.")] = "synthetic",
    root: Root = None,
    features: Features = None,
    option: Option = None,
    model: Annotated[
        str, typer.Option(help="Name of the model, MODEL-PRESET, or package.module:Class.")
    ] = "ld4mrec",
    preset: Annotated[
        str | None,
        typer.Option(help="Preset of the model that settings start from, such as paper."),
    ] = None,
    config: SettingsFile = None,
    set_: Setting = None,
    tuned: Annotated[
        bool,
        typer.Option(
            "--tuned",
            help="Start from the settings that tuning found for the model on the dataset.",
        ),
    ] = False,
    epochs: Epochs = DEFAULTS.epochs,
    patience: Patience = DEFAULTS.patience,
    min_steps: MinSteps = DEFAULTS.min_steps,
    max_minutes: MaxMinutes = DEFAULTS.max_minutes,
    eval_every: EvalEvery = DEFAULTS.eval_every,
    monitor: Monitor = DEFAULTS.monitor,
    seed: Seed = DEFAULTS.seed,
    accelerator: Accelerator = DEFAULTS.accelerator,
    devices: Annotated[int, setting("devices", min=1)] = DEFAULTS.devices,
    num_nodes: Annotated[int, setting("num_nodes", min=1)] = DEFAULTS.num_nodes,
    strategy: Annotated[str, setting("strategy")] = DEFAULTS.strategy,
    shard_items: Annotated[bool, setting("shard_items")] = DEFAULTS.shard_items,
    precision: Annotated[str, setting("precision")] = DEFAULTS.precision,
    mask_validation: Annotated[
        bool, typer.Option(help="Mask validation items in the test ranking.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Replace a training that is already in the folder.")
    ] = False,
    engine: EngineOption = Engine.local,
    address: Address = None,
    num_workers: Annotated[
        int, typer.Option(min=1, help="Workers of the cluster, which share each batch.")
    ] = 1,
    gpus: Gpus = 0,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Resume the training in this folder."),
    ] = None,
    progress: Annotated[
        bool, typer.Option(help="Show the progress: a bar, or a line per validation.")
    ] = True,
) -> None:
    """Train a model, keep the best epoch by validation, and test it.

    With --resume RUN a training that was cut off continues to the end that it would have had, with
    its own settings; --root, --epochs, --patience, --min-steps, --max-minutes, --accelerator,
    --devices, --num-nodes, --strategy and --shard-items may be changed.
    """
    folder = out if resume is None else resume
    if folder is None:
        raise ConfigError("give --out, the folder to write, or --resume, the folder to resume")
    try:
        if resume is not None:
            from graphdiff.runs import resume_run

            given = given_options(context) - {"resume", "root", "progress"}
            if ":" in model:
                import_model(model)
                given -= {"model"}
            if ":" in dataset:
                import_dataset(dataset)
                given -= {"dataset"}
            changes = {name: context.params[name] for name in given}
            results = resume_run(folder, root, progress=progress, **changes)
        else:
            model = model if preset is None else f"{model}-{preset}"
            defaults = tuned_settings(dataset, model) if tuned else {}
            run = run_config(
                {
                    "model": {"name": model, "settings": model_settings(config, set_, defaults)},
                    "dataset": {
                        "name": dataset,
                        "root": None if root is None else str(root),
                        "options": dataset_options(dataset, features, option),
                    },
                    "training": {
                        name: context.params[name] for name in TrainingConfig.model_fields
                    },
                    "evaluation": {"mask_validation": mask_validation},
                }
            )
            if engine is Engine.ray:
                from graphdiff.cluster.train import train_on_ray

                results = train_on_ray(
                    folder,
                    run,
                    num_workers=num_workers,
                    gpus=gpus,
                    address=address,
                    overwrite=overwrite,
                )
            else:
                from graphdiff.runs import train_run

                results = train_run(folder, run, overwrite=overwrite, progress=progress)
    except KeyboardInterrupt as error:
        from graphdiff.distributed.processes import is_main

        if not is_main():
            return
        reason = str(error) or "interrupted"
        raise Interrupted(
            f"{reason}; resume with: graphdiff train --resume {folder}",
            getattr(error, "signal", signal.SIGINT),
        ) from None
    if not results:
        return
    print_text(
        f"{results['model']} on {results['dataset']}: best epoch "
        f"{results['best_epoch']}, {results['epochs']} trained, {results['train_seconds']:.1f} s"
    )
    print_metrics({"val": results["val"], "test": results["test"]}, results["masked"])
    print_text(f"written to {folder}")
