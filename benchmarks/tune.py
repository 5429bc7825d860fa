"""Searches a model's settings on validation, with the same number of trials for every model.

    python benchmarks/tune.py --dataset tiktok --root DIR --model lightgcn --trials 8

The search is optuna's TPE sampler with a seed. The study is kept beside the result and goes on
where it was stopped; ``--trials`` is the total, or less where a model has fewer settings to try.
The best settings go to ``benchmarks/configs/<dataset>/<model>.yaml``. The test pairs are never
looked at.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import optuna
import yaml
from protocol import CONFIGS, load_data, run_cell

from graphdiff.errors import GraphDiffError
from graphdiff.files import write_text
from graphdiff.models.registry import get_model


def main() -> None:
    arguments = parse()
    data = load_data(arguments.dataset, arguments.root, arguments.features)
    space = get_model(arguments.model).search_space()
    folder = arguments.configs / arguments.dataset
    folder.mkdir(parents=True, exist_ok=True)
    training = {
        "epochs": arguments.epochs,
        "patience": arguments.patience,
        "eval_every": arguments.eval_every,
        "monitor": arguments.monitor,
    }

    def measure(trial: optuna.Trial, settings: dict[str, Any]) -> float:
        cell = run_cell(
            data, arguments.model, settings, seed=0, test=False, progress=False, **training
        )
        for key in ("val", "best_epoch", "epochs", "train_seconds"):
            trial.set_user_attr(key, cell[key])
        print(
            f"trial {trial.number}: {settings} -> recall@20 {cell['val']['recall@20']:.4f} "
            f"at epoch {cell['best_epoch']}, {cell['train_seconds']:.0f} s",
            flush=True,
        )
        return cell["val"][arguments.monitor]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = optuna.storages.journal.JournalFileBackend(str(folder / f".{arguments.model}.log"))
    study = optuna.create_study(
        study_name=arguments.model,
        storage=optuna.storages.JournalStorage(journal),
        direction="maximize",
        load_if_exists=True,
    )
    if not study.trials:
        # The defaults take part, and count as a trial.
        study.enqueue_trial(defaults(arguments.model, space))
    num_settings = math.prod(len(values) for values in space.values())
    while len(tried := complete(study)) < min(arguments.trials, num_settings):
        study.sampler = sampler(arguments, len(study.trials), num_settings)
        trial = study.ask()
        settings = {name: trial.suggest_categorical(name, values) for name, values in space.items()}
        if any(settings == earlier.params for earlier in tried):
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, measure(trial, settings))
    write_text(folder / f"{arguments.model}.yaml", yaml.safe_dump(summary(study), sort_keys=False))
    print(f"best of {len(complete(study))} trials: {study.best_params} {study.best_value:.4f}")


def sampler(
    arguments: argparse.Namespace, num_trials: int, num_settings: int
) -> optuna.samplers.BaseSampler:
    # A seed for each trial: a search that was stopped goes on as if it had not been.
    seed = 1000 * arguments.seed + num_trials
    if num_settings <= arguments.trials:
        return optuna.samplers.RandomSampler(seed)  # all are tried: there is nothing to learn
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)


def defaults(model: str, space: dict[str, list[Any]]) -> dict[str, Any]:
    config = get_model(model).configure()
    return {name: getattr(config, name) for name in space}


def complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(states=[optuna.trial.TrialState.COMPLETE])


def summary(study: optuna.Study) -> dict[str, Any]:
    best, tried = study.best_trial, complete(study)
    return {
        "settings": best.params,
        "trials": len(tried),
        "hours": round(sum(t.user_attrs["train_seconds"] for t in tried) / 3600, 3),
        "val": {name: best.user_attrs["val"][name] for name in ("recall@20", "ndcg@20")},
        "epochs": best.user_attrs["epochs"],
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", type=Path, help="folder of the dataset's files")
    parser.add_argument("--features", nargs="+", metavar="NAME=FILE", help="for mmrec")
    parser.add_argument("--model", required=True)
    parser.add_argument("--trials", type=int, default=10, help="total, an earlier run's included")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search")
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--patience", type=int, default=30, help="in validations")
    parser.add_argument("--eval-every", type=int, default=1, help="epochs between validations")
    parser.add_argument("--monitor", default="recall@20")
    parser.add_argument("--configs", type=Path, default=CONFIGS, help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except GraphDiffError as error:
        sys.exit(f"tune.py: {error}")
