"""Loading datasets by name, their arguments, and the correctness of their cards."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from graphdiff.cli.main import app, main
from graphdiff.datasets import (
    DATASETS,
    InteractionLog,
    MMRecLayout,
    RecDataset,
    SyntheticMultimedia,
    TikTok,
    from_frame,
    load,
    parse_options,
)
from graphdiff.datasets.cards import card_names
from graphdiff.datasets.registration import built_in_names, registered
from graphdiff.datasets.registry import list_cards
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, build_data, modalities

CARDS = Path(__file__).parents[2] / "datasets"


def card(name):
    return yaml.safe_load((CARDS / name / "card.yaml").read_text())


def test_a_dataset_is_opened_by_name():
    dataset = load("Synthetic", seed=2, num_users=5, num_items=20)
    assert isinstance(dataset, SyntheticMultimedia)
    assert dataset.seed == 2
    assert dataset[0]["user"].num_nodes == 5


def test_an_unknown_name_is_refused_with_those_known():
    with pytest.raises(ConfigError, match=r"no dataset 'netflix'; there are .*mmrec, .*tiktok"):
        load("netflix")


def test_an_unknown_argument_is_refused_with_those_known(tmp_path):
    with pytest.raises(ConfigError, match="'tiktok' takes no argument 'k_core'"):
        load("tiktok", tmp_path, k_core=5)
    with pytest.raises(ConfigError, match=r"takes no argument 'kcore'; it takes .*k_core"):
        load("csv", tmp_path, kcore=5)


def test_a_root_that_is_needed_is_asked_for():
    with pytest.raises(DataError, match=r"'tiktok' is read from files; give the folder .*--root"):
        load("tiktok")


def test_every_dataset_has_a_card_and_every_card_a_dataset():
    found = {path.parent.name for path in CARDS.glob("*/card.yaml")}
    # A class that several cards share is read through them and has no card of its own.
    shared = {card(name).get("reader") for name in found} - found - {None}
    assert shared == {"ml-1m"}
    assert found | shared == built_in_names()
    assert found <= set(DATASETS)
    listed = (CARDS / "README.md").read_text()
    for name in found:
        assert card(name)["name"] == name
        assert f"--dataset {name}" in card(name)["command"]
        assert f"({name}/card.yaml)" in listed
        for key in ("title", "description", "source", "licence", "files", "statistics", "get"):
            assert key in card(name)


def test_a_dataset_without_a_class_of_its_own_says_which_layout_it_is_in():
    layouts = {
        DATASETS[name]: name for name in card_names() if card(name).get("layout") == name
    } | {DATASETS["csv"]: "csv"}
    assert set(layouts.values()) == {"csv", "diffmm", "mapped", "mmrec", "pairs", "recbole"}
    for name in card_names():
        assert card(name).get("layout", name) in DATASETS
        if DATASETS[name] in layouts:
            assert DATASETS[card(name)["layout"]] is DATASETS[name]


def test_commands_of_cards_are_commands():
    """Every option and argument of a card's command is known; only the folder is missing."""
    for name in card_names() - {"synthetic", "synthetic-drift", "tiktok"}:
        command = card(name)["command"].replace("DIR", "no-such-folder").split()
        assert command[:2] == ["graphdiff", "train"]
        with pytest.raises(DataError, match="no-such-folder"):
            CliRunner().invoke(app, command[1:], catch_exceptions=False)


def test_the_card_of_tiktok_has_the_checksums_that_are_checked():
    files = card("tiktok")["files"]
    assert {name: entry["checksum"] for name, entry in files.items()} == TikTok.checksums
    assert card("tiktok")["source"]["url"].rpartition("/tree/")[2] in TikTok.url.replace(
        "HKUDS/DiffMM/", "", 1
    )


def test_the_card_of_the_synthetic_dataset_has_its_statistics():
    data = load("synthetic")[0]
    edges, found = data[INTERACTS], card("synthetic")["statistics"]
    noise = edges.is_noise.float().mean().item()
    assert found.pop("share_of_noise") == pytest.approx(noise, abs=0.005)
    degrees = [
        edges.edge_index[row].bincount(minlength=data[node].num_nodes)
        for row, node in enumerate(("user", "item"))
    ]
    assert found == {
        "users": data["user"].num_nodes,
        "items": data["item"].num_nodes,
        "training": edges.edge_index.size(1),
        "validation": edges.val_edge_label_index.size(1),
        "test": edges.test_edge_label_index.size(1),
        "users_without_training_interactions": int((degrees[0] == 0).sum()),
        "items_without_training_interactions": int((degrees[1] == 0).sum()),
        "channels": {name: data["item"][f"x_{name}"].size(1) for name in modalities(data)},
    }


def test_the_code_of_the_cards_runs():
    _, *blocks = (CARDS / "README.md").read_text().split("```python\n")
    names: dict = {}
    for block in blocks:
        exec(block.partition("```")[0], names)
    assert names["data"]["item"].num_nodes == 4


OUTSIDE = '''
"""A dataset outside of graphdiff."""
import numpy as np
from graphdiff.datasets import RecDataset
from graphdiff.schema import build_data


class Tastes(RecDataset):
    name = "{name}"
    raw_file_names = ["likes.npy"]

    def __init__(self, root, size: int = 4, transform=None, pre_transform=None, force_reload=False):
        self.size = size
        super().__init__(root, transform, pre_transform, force_reload)

    @property
    def parameters(self):
        return {{"size": self.size}}

    def read(self):
        return build_data(2, self.size, np.load(self.raw_paths[0]))
'''


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A folder on Python's path that holds a dataset; modules and names are removed after."""
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    before = dict(registered)
    monkeypatch.syspath_prepend(tmp_path)
    np.save(tmp_path / "likes.npy", [[0, 1], [1, 2]])
    yield tmp_path
    for module in ("tastes_here", "tastes_there"):
        sys.modules.pop(module, None)
    registered.clear()
    registered.update(before)


def test_a_class_outside_is_found_by_module_and_then_by_name(outside):
    (outside / "tastes_here.py").write_text(OUTSIDE.format(name="tastes-here"))
    place = "tastes_here:Tastes"
    with pytest.raises(ConfigError, match="no dataset 'tastes-here'"):
        load("tastes-here", outside)
    with pytest.raises(ConfigError, match="a name from a file imports nothing; import tastes_here"):
        load(place, outside, import_module=False)
    assert "tastes_here" not in sys.modules
    assert load(place, outside, size=5)[0]["item"].num_nodes == 5
    assert load(place, outside, import_module=False)[0]["item"].num_nodes == 4
    found = load("Tastes-Here", outside, size=3)
    assert found[0][INTERACTS].edge_index.tolist() == [[0, 1], [1, 2]]
    assert DATASETS["tastes-here"] is type(found)
    assert "tastes-here" in list(DATASETS)
    assert len(OUTSIDE.strip().splitlines()) < 30


def test_arguments_of_a_class_outside_are_checked(outside):
    (outside / "tastes_here.py").write_text(OUTSIDE.format(name="tastes-here"))
    place = "tastes_here:Tastes"
    for wrong, message in (
        ({"size": "many"}, "Tastes cannot take size='many': expected an integer"),
        ({"length": 3}, "takes no argument 'length'; it takes .*size"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(place, outside, **wrong)
    assert parse_options(place, {"size": "7"}) == {"size": 7}


def test_a_run_on_a_class_outside_is_resumed_and_evaluated(outside, tmp_path):
    """As on a command line: each command is a process of its own, in the module's folder."""
    place, run = "tastes_here:Tastes", str(tmp_path / "run")
    pairs = "[[0, 1], [0, 1]], [[0, 1], [1, 2]], [[0, 1], [2, 3]]"
    module = OUTSIDE.format(name="tastes-here").replace("np.load(self.raw_paths[0])", pairs)
    (outside / "tastes_here.py").write_text(module)

    def graphdiff(*arguments):
        # The working directory is not on the path of a console script.
        code = "import sys; sys.path.remove(''); from graphdiff.cli.main import main; main()"
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        return subprocess.run([sys.executable, "-c", code, *arguments], cwd=outside,
                              env=environment, capture_output=True, text=True)  # fmt: skip

    common = ["--model", "lightgcn", "--set", "hidden_channels=4", "--no-progress", "--epochs", "2"]
    common += ["--accelerator", "cpu", "--min-steps", "0"]
    common += ["--option", "size=25"]
    done = graphdiff("train", "--dataset", place, "--root", ".", *common, "--out", run)
    assert done.returncode == 0, done.stderr
    refused = graphdiff("evaluate", run)
    assert refused.returncode == 2
    assert "import tastes_here first, or on the command line give --dataset" in refused.stderr
    done = graphdiff("evaluate", run, "--dataset", place)
    assert done.returncode == 0, done.stderr
    done = graphdiff("train", "--resume", run, "--dataset", place, "--epochs", "3", "--no-progress")
    assert done.returncode == 0, done.stderr


def test_another_distribution_declares_a_dataset(outside):
    (outside / "tastes_there.py").write_text(OUTSIDE.format(name="tastes-there"))
    info = outside / "tastes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tastes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[graphdiff.datasets]\ntastes-there = tastes_there:Tastes\nbroken = no_such_module:X\n"
        "odd = json:loads\n"
    )
    assert "tastes_there" not in sys.modules
    assert "tastes-there" in list(DATASETS)
    assert load("tastes-there", outside)[0]["item"].num_nodes == 4
    with pytest.raises(ConfigError, match=r"'broken' is declared as no_such_module:X, which"):
        load("broken", outside)
    with pytest.raises(ConfigError, match=r"json:loads is .*; expected a subclass"):
        load("odd", outside)
    listed = {card.name: card for card in list_cards()}
    assert listed["tastes-there"].title == "declared by tastes"
    assert listed["tastes-there"].found(outside) == "not known here"


def test_names_of_graphdiff_cannot_be_taken(outside):
    for name in ("csv", "baby", "ml-1m"):
        with pytest.raises(ConfigError, match=f"would be registered as '{name}', which is a data"):
            type("Mine", (RecDataset,), {"name": name, "read": lambda self: None})
    assert DATASETS["baby"] is MMRecLayout


def test_a_class_without_read_is_named(outside):
    unfinished = type("Halfway", (RecDataset,), {"raw_file_names": []})
    for attempt in (lambda: unfinished(outside), lambda: load("halfway", outside)):
        with pytest.raises(ConfigError, match=r"Halfway does not define read\(\)"):
            attempt()
    type("Halfway", (unfinished,), {"read": lambda self: build_data(1, 2, [[0], [1]])})
    assert load("halfway", outside)[0]["item"].num_nodes == 2


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no_such_module:X", "cannot be imported"),
        ("json:no_such_class", "cannot be imported"),
        ("json:loads", "expected a subclass"),
        (":X", "cannot be imported"),
        ("json:", "cannot be imported"),
        ("..json:X", "cannot be imported"),
    ],
)
def test_places_without_a_dataset(place, message):
    with pytest.raises(ConfigError, match=message):
        load(place)


WRONG_OPTIONS = [
    ("csv", "ratios=[0.8,0.1", r"ratios='\[0.8,0.1' is not readable"),
    ("csv", "ratios=[0.8,0.1]", r"ratios.*expected a value for each place"),
    ("csv", "ratios=0.8", "ratios=0.8: expected a list"),
    ("csv", "ratios=[0.8,x,0.1]", "ratios.1='x': expected a number"),
    ("csv", "seed=@1", "seed='@1' is not readable"),
    ("csv", "seed=1.5", "seed=1.5: expected an integer"),
    ("csv", "seed=-1", "seed=-1: expected greater than or equal to 0"),
    ("csv", "seed=true", "seed=True: expected an integer"),
    ("csv", "content=photos", "content='photos': expected name: value pairs"),
    ("csv", "content={text: 5}", "content=5: expected text"),
    ("csv", "names=5", "names=5: expected a list"),
    ("csv", "ratios=0.8,0.1,x", "ratios.2='x': expected a number"),
    ("csv", "ratios=0.8,0.2", r"ratios.*expected a value for each place"),
    ("csv", "features=a,b", "features='a,b': expected name: value pairs"),
    ("csv", "names=[user, 5]", "names=5: expected text"),
    ("csv", "transform=foo", "transform='foo': expected a function"),
    ("csv", "pre_transform=[1]", r"pre_transform=\[1\]: expected a function"),
    ("csv", "encode={text: tf}", "encode='tf': expected a function"),
    ("csv", "force_reload=perhaps", "force_reload='perhaps': expected true or false"),
    ("csv", "k_core=many", "k_core='many': expected an integer"),
    ("csv", "min_rating=.nan", "min_rating=nan: expected a finite number"),
    ("csv", "split=thirds", "split='thirds': expected 'auto'"),
    ("csv", "root=elsewhere", "root is no option"),
    ("csv", "kcore=5", "takes no argument 'kcore'"),
    ("csv", "name=x", "takes no argument 'name'"),
    ("mmrec", "features=text.npy", "features='text.npy': expected name: value pairs"),
    ("recbole", "by=clock", "by='clock': expected 'random' or 'time'"),
    ("ml-1m-clean", "variant=noisy", "takes no argument 'variant'"),
    ("synthetic", "num_users=many", "num_users='many': expected an integer"),
    ("synthetic", "noise=[1]", r"noise=\[1\]: expected a number"),
    ("synthetic", "seed=-1", "seed is -1; give at least 0"),
    ("tiktok", "transform=foo", "transform='foo': expected a function"),
]


@pytest.mark.parametrize(("name", "option", "message"), WRONG_OPTIONS)
def test_kind_h_a_wrong_option_is_named_before_anything_is_read(
    name, option, message, tmp_path, monkeypatch, capsys
):
    given = ["--dataset", name, "--root", str(tmp_path / "no"), "--out", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", ["graphdiff", "train", *given, "--option", option])
    with pytest.raises(SystemExit) as stopped:
        main()
    line = capsys.readouterr().err
    assert stopped.value.code == 2, line
    assert re.search(message, line)
    assert "\n" not in line.strip()


def test_kind_h_arguments_are_checked_in_python_as_well(tmp_path):
    for attempt in (
        lambda: InteractionLog(tmp_path, names="user,item"),
        lambda: InteractionLog(tmp_path, None, "photos"),
        lambda: MMRecLayout(tmp_path, features="text.npy"),
        lambda: SyntheticMultimedia(num_users=5.5),
        lambda: SyntheticMultimedia("0"),
        lambda: TikTok(tmp_path, transform="foo"),
    ):
        with pytest.raises(ConfigError, match=r"cannot take .*: expected"):
            attempt()


def test_kind_h_integers_of_every_type_and_size_are_seeds():
    small = {"num_users": np.int32(5), "num_items": np.int64(20), "noise": np.float32(0.25)}
    for seed in (np.uint8(3), 2**64, 1_700_000_000_000_000_000):
        dataset = load("synthetic", seed=seed, **small)
        assert dataset.seed == seed
        assert type(dataset.seed) is int
    log = pd.DataFrame({"user": [1, 1, 2], "item": [1, 2, 1]})
    assert from_frame(log, seed=2**70)["user"].num_nodes == 2


def test_texts_stay_texts_where_text_is_expected():
    texts = {
        "user": "1",
        "item": "yes",
        "delimiter": ",",
        "encoder": "tfidf",
        "file": "2024",
        "split": "ratio",
    }
    assert parse_options("csv", texts) == texts
    assert parse_options("recbole", {"user": "null", "k_core": "5"}) == {
        "user": "null",
        "k_core": 5,
    }
    assert parse_options("csv", {"names": "[a, b]", "min_rating": "3.5"}) == {
        "names": ["a", "b"],
        "min_rating": 3.5,
    }


def test_lists_may_be_written_without_brackets():
    texts = {"ratios": "0.8,0.1, 0.1", "names": "user, 1,no"}
    found = parse_options("csv", texts)
    assert found == {"ratios": [0.8, 0.1, 0.1], "names": ["user", "1", "no"]}
    assert parse_options("csv", {"names": "['a, b', c]"}) == {"names": ["a, b", "c"]}


def test_a_list_of_a_command_line_splits_the_log(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    rows = "".join(f"{user},{item}\n" for user in range(4) for item in range(10))
    (tmp_path / "log.csv").write_text(rows)
    given = ["--option", "ratios=0.5,0.2,0.3", "--option", "names=user,item", "--json"]
    arguments = ["graphdiff", "describe", "--dataset", "csv", "--root", str(tmp_path), *given]
    monkeypatch.setattr("sys.argv", arguments)
    main()
    assert json.loads(capsys.readouterr().out)["pairs"] == {
        "training": 20,
        "validation": 8,
        "test": 12,
    }
