"""Interaction logs with any column names, ids, features and content."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from graphdiff.datasets import InteractionLog, from_frame, load
from graphdiff.datasets.layouts.log_settings import LogSettings
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import INTERACTS, fingerprint, modalities, raw_ids
from tests.datasets.samples import as_pairs

# Who bought what when; b bought 007 twice.
FRAME = pd.DataFrame(
    {
        "customer": ["b", "a", "a", "b", "a", "b", "b"],
        "article": ["007", "x", "007", "y", "y", "x", "007"],
        "date": pd.to_datetime(["2020-01-0" + str(day) for day in (1, 2, 3, 4, 5, 6, 7)]),
        "stars": [5, 4, 2, 5, 3, 1, 4],
    }
)
NAMES = {"user": "customer", "item": "article", "timestamp": "date", "rating": "stars"}

pytestmark = pytest.mark.filterwarnings("ignore:.*repeat a pair")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


def named(data, attribute):
    users, items = data[INTERACTS][attribute]
    return list(zip(raw_ids(data, "user", users), raw_ids(data, "item", items), strict=True))


def times(data):
    """When each training pair happened, by raw ids."""
    return dict(zip(named(data, "edge_index"), data[INTERACTS].time.tolist(), strict=True))


class TestTimes:
    def test_each_training_pair_has_its_own(self):
        data = from_frame(FRAME, **NAMES, min_rating=2, split="leave_one_out", by="time")
        unit = np.datetime_data(FRAME["date"].dtype)[0]
        days = FRAME["date"].astype(f"datetime64[{unit}]").astype("int64")
        assert times(data) == {("b", "007"): days[0], ("a", "x"): days[1]}

    @pytest.mark.parametrize("duplicates", ["first", "last"])
    def test_a_repeated_pair_has_that_of_the_row_that_counts(self, duplicates):
        frame = FRAME.assign(date=[10, 20, 30, 40, 50, 60, 70])
        data = from_frame(frame, **NAMES, ratios=(1, 0, 0), duplicates=duplicates)
        rows = {(u, i): t for u, i, t, _ in frame.itertuples(index=False)}  # The last of each.
        expected = rows if duplicates == "last" else {**rows, ("b", "007"): 10}
        assert times(data) == expected
        assert data[INTERACTS].time.dtype == torch.long

    @pytest.mark.parametrize("split", ["ratio", "leave_one_out", "global_time"])
    def test_every_split_keeps_them(self, split):
        rng = np.random.default_rng(0)
        user, item = np.divmod(rng.permutation(200), 20)
        time = rng.random(200)
        frame = pd.DataFrame({"user": user, "item": item, "timestamp": time})
        data = from_frame(frame, split=split, k_core=2)
        known = {(u, i): t for u, i, t in zip(user, item, time, strict=True)}
        found = times(data)
        assert 0 < len(found) < 200
        assert found == {pair: known[pair] for pair in found}

    def test_a_log_without_them_has_none(self):
        names = {role: name for role, name in NAMES.items() if role != "timestamp"}
        assert "time" not in from_frame(FRAME.drop(columns="date"), **names)[INTERACTS]

    def test_unreadable_ones_that_are_not_needed_are_left_out(self):
        frame = FRAME.assign(date=["?"] * len(FRAME))
        with pytest.warns(UserWarning, match="column of timestamps is ignored"):
            data = from_frame(frame, **NAMES)
        assert "time" not in data[INTERACTS]

    def test_files_give_those_of_frames(self, folder):
        frame = FRAME.assign(date=[1.5, 2, 3, 4, 5, 6, 7])
        frame.to_csv(folder / "log.csv", index=False)
        data = load("csv", folder, **NAMES)[0]
        assert times(data) == times(from_frame(frame, **NAMES))
        assert times(load("csv", folder, **NAMES)[0]) == times(data)  # The stored graph.


class TestFrames:
    def test_names_times_ratings_and_splits(self):
        data = from_frame(FRAME, **NAMES, min_rating=2, split="leave_one_out", by="time")
        assert data["user"].raw_id == ["a", "b"]
        assert data["item"].raw_id == ["007", "x", "y"]
        assert named(data, "edge_index") == [("b", "007"), ("a", "x")]
        assert named(data, "val_edge_label_index") == [("a", "007")]
        assert named(data, "test_edge_label_index") == [("b", "y"), ("a", "y")]

    def test_which_repeat_counts_changes_the_split(self):
        arguments = {**NAMES, "split": "leave_one_out", "by": "time"}
        first = from_frame(FRAME, **arguments)
        last = from_frame(FRAME, **arguments, duplicates="last")
        assert ("b", "x") in named(first, "test_edge_label_index")
        assert ("b", "007") in named(last, "test_edge_label_index")
        with pytest.raises(DataError, match="1 rows repeat a pair"):
            from_frame(FRAME, **arguments, duplicates="error")

    def test_every_type_of_holder_gives_the_same(self):
        frames = (FRAME, pa.Table.from_pandas(FRAME), FRAME.astype({"customer": "category"}))
        assert len({fingerprint(from_frame(frame, **NAMES)) for frame in frames}) == 1

    def test_a_random_split_goes_by_its_seed_and_not_by_the_global_one(self):
        rng = np.random.default_rng(0)
        frame = pd.DataFrame(
            {"user": rng.integers(9, size=300), "item": rng.integers(99, size=300)}
        )
        prints = []
        for seed in (1, 1, 2):
            np.random.seed(len(prints))  # noqa: NPY002
            prints.append(fingerprint(from_frame(frame, seed=seed)))
        assert prints[0] == prints[1] != prints[2]

    def test_features_go_to_their_items(self):
        values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        data = from_frame(FRAME, {"image": (["y", "unsold", "007"], values)}, **NAMES)
        assert data["item"].has_image.tolist() == [True, False, True]
        assert data["item"].x_image.tolist() == [[5, 6], [0, 0], [1, 2]]

    def test_lists_of_ids_keep_those_without_interactions(self):
        data = from_frame(FRAME, users=["c", "b", "a"], items=["z", "y", "x", "007"], **NAMES)
        assert data["user"].raw_id == ["c", "b", "a"]
        assert data["item"].raw_id == ["z", "y", "x", "007"]
        core = from_frame(FRAME, items=["z", "y", "x", "007"], k_core=2, **NAMES)
        assert core["item"].raw_id == ["y", "x", "007"]

    def test_integer_ids_stay_integers(self):
        data = from_frame(FRAME.assign(customer=[30, 4, 4, 30, 4, 30, 30]), **NAMES)
        assert data["user"].raw_id.tolist() == [4, 30]

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"usr": "customer"}, ConfigError, "takes no argument 'usr'; it takes user, item"),
            ({"k_core": -1}, ConfigError, "k_core=-1: .*greater than or equal"),
            ({"split": "thirds"}, ConfigError, "split='thirds'"),
            ({"ratios": [0.5, 0.5, 0.5]}, ConfigError, "sum to 1"),
            ({"user": "who"}, DataError, "the columns customer, .*, but not who; say what it is"),
            (
                {"timestamp": "timestamp", "split": "global_time"},
                DataError,
                "no column 'timestamp' to split by",
            ),
            ({"split": "column"}, DataError, "no column 'split' to split by"),
            ({"rating": "rating", "min_rating": 3}, DataError, "no column of ratings"),
            ({"k_core": 4}, DataError, "nothing is left of the log at k_core=4"),
        ],
    )
    def test_settings_and_columns_that_do_not_fit_are_refused(self, settings, error, message):
        with pytest.raises(error, match=message):
            from_frame(FRAME, **{**NAMES, **settings})

    def test_features_that_do_not_fit(self):
        for ids, message in (
            (["p", "q"], "no row of the image features belongs to an item .*'007'.*'p', 'q'"),
            (["x", "x"], "more than one row of image features"),
        ):
            with pytest.raises(DataError, match=message):
                from_frame(FRAME, {"image": (ids, np.ones((2, 3)))}, **NAMES)

    def test_an_empty_log(self):
        with pytest.raises(DataError, match="holds no interactions"):
            from_frame(FRAME.iloc[:0], **NAMES)

    def test_every_setting_is_documented(self):
        assert all(field.description for field in LogSettings.model_fields.values())


class TestFiles:
    @pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".parquet"])
    def test_text_and_parquet_give_what_the_frame_gives(self, folder, suffix):
        if suffix == ".parquet":
            FRAME.to_parquet(folder / "sales.parquet")
        else:
            FRAME.to_csv(
                folder / f"sales{suffix}", sep="," if suffix == ".csv" else "\t", index=False
            )
        data = load("csv", folder, **NAMES, split="ratio", by="time")[0]
        expected = from_frame(FRAME, **NAMES, split="ratio", by="time")
        assert fingerprint(data) == fingerprint(expected)

    def test_ids_in_text_stay_as_they_are_written(self, folder):
        (folder / "log.csv").write_text('user,item\n1,"a, b"\n2,NA\n3,"said ""no"""\n')
        data = load("csv", folder, split="leave_one_out")[0]
        assert data["user"].raw_id.tolist() == [1, 2, 3]
        assert data["item"].raw_id == ["NA", "a, b", 'said "no"']

    def test_another_delimiter_and_no_header(self, folder):
        (folder / "ratings.csv").write_text("1;10;5;9\n1;11;1;8\n2;10;4;7\n")
        names = ["user", "item", "rating", "timestamp"]
        data = load("csv", folder, delimiter=";", names=names, min_rating=4)[0]
        assert as_pairs(data, "edge_index") == [(0, 0), (1, 0)]
        assert data["item"].raw_id.tolist() == [10]

    def test_a_change_of_settings_reads_the_files_again(self, folder):
        FRAME.to_csv(folder / "sales.csv", index=False)
        sizes = [
            load("csv", folder, **NAMES, split="leave_one_out", min_rating=least)[0][
                "item"
            ].num_nodes
            for least in (None, 5)
        ]
        assert sizes == [3, 2]

    def test_npy_features_go_by_the_list_of_items(self, folder):
        FRAME.to_csv(folder / "interactions.csv", index=False)
        (folder / "items.csv").write_text("article\ny\nx\n007\nunsold\n")
        np.save(folder / "features_clip.npy", np.arange(8).reshape(4, 2))
        data = load("csv", folder, **NAMES)[0]
        assert data["item"].raw_id == ["y", "x", "007", "unsold"]
        assert data["item"].x_clip.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
        (folder / "items.csv").write_text("article\ny\nx\n007\n")
        with pytest.raises(DataError, match=r"features_clip\.npy has 4 rows, but 3 items"):
            load("csv", folder, **NAMES)

    def test_npy_features_without_a_list_go_by_integer_ids(self, folder):
        (folder / "interactions.csv").write_text("user,item\n1,2\n1,0\n2,0\n")
        np.save(folder / "features_clip.npy", np.arange(8).reshape(4, 2))
        data = load("csv", folder)[0]
        assert data["item"].raw_id.tolist() == [0, 2]
        assert data["item"].x_clip.tolist() == [[0, 1], [4, 5]]

    def test_tables_of_features_in_every_form(self, folder):
        FRAME.to_parquet(folder / "interactions.parquet")
        rows = [[1.0, 2.0], None, [5.0, 6.0]]
        pq.write_table(
            pa.table(
                {
                    "article": ["x", "007", "y"],
                    "name": ["X", "Seven", "Y"],
                    "x_image": rows,
                    "x_audio_0": [1, 2, 3],
                    "x_audio_1": [4, 5, 6],
                }
            ),
            folder / "items.parquet",
        )
        pq.write_table(
            pa.table({"item": ["y", "z"], "v": pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2))}),
            folder / "features_text.parquet",
        )
        (folder / "tags.csv").write_text("item,x_0\n007,2\nx,3.5\n")
        options = {**NAMES, "file": "interactions.parquet"}
        data = load("parquet", folder, **options)[0]
        assert data["item"].raw_id == ["x", "007", "y"]
        assert modalities(data) == ["audio", "image", "text"]
        assert data["item"].x_image.tolist() == [[1, 2], [0, 0], [5, 6]]
        assert data["item"].has_image.tolist() == [True, False, True]
        assert data["item"].x_audio.tolist() == [[1, 4], [2, 5], [3, 6]]
        assert data["item"].x_text.tolist() == [[0, 0], [0, 0], [1, 2]]
        data = load("parquet", folder, **options, features={"tags": "tags.csv"})[0]
        assert modalities(data) == ["tags"]
        assert data["item"].x_tags.tolist() == [[3.5], [2], [0]]

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ({"article": ["x"], "name": ["X"]}, "has no features of image: its columns are name"),
            ({"article": ["x", "y"], "x": [[1], [1, 2]]}, r"lists of \[1, 2\] numbers"),
            ({"article": ["x"], "x": [["one"]]}, "lists of other than numbers"),
            ({"article": ["x"], "x_0": ["one"]}, "holds other than numbers"),
            ({"name": ["x"], "x": [[1]]}, "but not item"),
            (
                {"article": ["x", None], "x": [[1], [2]]},
                "1 row has no item: row 2 of the col",
            ),
            ({"article": ["x", "y"], "x": [[1.0, None], [2.0, 2.0]]}, "NaN in part of the row"),
        ],
    )
    def test_tables_without_features(self, folder, table, message):
        FRAME.to_parquet(folder / "interactions.parquet")
        pq.write_table(pa.table(table), folder / "features_image.parquet")
        with pytest.raises(DataError, match=message):
            load("parquet", folder, **NAMES)

    def test_a_file_that_cannot_be_read_is_named(self, folder):
        for name, content in (
            ("log.parquet", b"PAR1 and no more"),
            ("log.csv", b"user,item\n1,2,3\n"),
            ("log.csv", b""),
            ("log.csv", b"user,item\n\xff\xfe,1\n"),
        ):
            path = folder / name
            path.write_bytes(content)
            with pytest.raises(DataError, match=name):
                load("csv", folder)
            path.unlink()

    def test_which_table_is_the_log_must_be_clear(self, folder):
        with pytest.raises(DataError, match="holds 0 tables that could be the interactions"):
            load("csv", folder)
        for name in ("one.csv", "two.tsv"):
            (folder / name).write_text("user,item\n1,2\n")
        with pytest.raises(DataError, match=r"2 tables .*: one\.csv, two\.tsv; .* file=NAME"):
            load("csv", folder)
        assert load("csv", folder, file="one.csv")[0]["user"].num_nodes == 1

    def test_a_file_that_claims_more_than_the_machine_has_is_refused_unread(
        self, folder, monkeypatch
    ):
        # A million times the same takes next to nothing on disk.
        same = pa.array(["x"] * 1_000_000).dictionary_encode()
        pq.write_table(pa.table({"user": same, "item": same}), folder / "interactions.parquet")
        assert (folder / "interactions.parquet").stat().st_size < 10_000
        monkeypatch.setattr("graphdiff.datasets.io.sizes.physical_memory", lambda: 2**24)
        monkeypatch.setattr(pq, "read_table", None)
        with pytest.raises(DataError, match="GiB, but this machine has"):
            load("parquet", folder)


class TestContent:
    @pytest.fixture
    def shop(self, folder):
        FRAME.to_csv(folder / "interactions.csv", index=False)
        (folder / "names.csv").write_text("article,title,text\n007,Seven,ends\nx,Ex,\nz,No,sale\n")
        (folder / "photos" / "00").mkdir(parents=True)
        for name, size in (("00/007.png", 3), ("y.jpg", 5), ("../outside.png", 7)):
            Image.new("RGB", (size, 1)).save(folder / "photos" / name)
        (folder / "photos" / "x.txt").write_text("no image")
        return folder

    def test_texts_and_images_go_through_the_encoders_that_are_given(self, shop):
        seen = []

        def lengths(texts):
            seen.extend(texts)
            return [[len(text), 1] for text in texts]

        def widths(paths):
            return torch.tensor([[Image.open(path).width] for path in paths])

        data = load(
            "csv", shop, **NAMES,
            content={"text": "names.csv", "image": "photos"},
            encode={"text": lengths, "image": widths},
        )[0]  # fmt: skip
        assert seen == ["Seven\nends", "Ex\n", "No\nsale"]
        assert data["item"].raw_id == ["007", "x", "y"]
        assert data["item"].x_text.tolist() == [[10, 1], [3, 1], [0, 0]]
        assert data["item"].has_text.tolist() == [True, True, False]
        assert data["item"].x_image.tolist() == [[3], [0], [5]]

    def test_content_is_encoded_once_until_it_changes(self, shop):
        calls = []

        def encode(paths):
            calls.append(len(paths))
            return np.ones((len(paths), 2))

        arguments = {**NAMES, "content": {"image": "photos"}, "encode": {"image": encode}}
        for _ in range(2):
            load("csv", shop, **arguments)
        Image.new("RGB", (2, 2)).save(shop / "photos" / "x.png")
        load("csv", shop, **arguments)
        assert calls == [2, 3]

    def test_without_the_extra_it_is_named(self, shop, monkeypatch):
        monkeypatch.setattr("graphdiff.datasets.encoders.find_spec", lambda module: None)
        for content, package in (("names.csv", "sentence-transformers"), ("photos", "torchvision")):
            with pytest.raises(ConfigError, match=rf"{package}, which .*graphdiff-rec\[encoders\]"):
                load("csv", shop, **NAMES, content={"m": content}, encoder="sentence-transformers")

    def test_texts_are_encoded_without_a_model_by_default(self, shop, monkeypatch):
        monkeypatch.setattr("graphdiff.datasets.encoders.find_spec", lambda module: None)
        lines = "article,title,text\n007,red shoe,of leather\nx,,\ny,red shoe,of wool\n"
        (shop / "names.csv").write_text(lines)
        item = load("csv", shop, **NAMES, content={"text": "names.csv"})[0]["item"]
        assert item.raw_id == ["007", "x", "y"]
        assert item.has_text.tolist() == [True, False, True]
        assert item.x_text[1].tolist() == [0, 0]
        # Two texts of the same length in words: their cosine is that of their TF-IDF vectors.
        shared, own = np.log(3 / 3) + 1, np.log(3 / 2) + 1
        cosine = 3 * shared**2 / (3 * shared**2 + own**2)
        assert (item.x_text[0] @ item.x_text[2]).item() == pytest.approx(cosine, abs=1e-5)
        assert item.x_text[[0, 2]].norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
        with pytest.raises(ConfigError, match="encoder='bert': expected 'auto', 'tfidf'"):
            load("csv", shop, **NAMES, content={"text": "names.csv"}, encoder="bert")
        (shop / "names.csv").write_text("article,title\n007,!!\nx,--\n")
        with pytest.raises(DataError, match="none of the 2 texts has a word"):
            load("csv", shop, **NAMES, content={"text": "names.csv"}, encoder="tfidf")

    def test_texts_of_other_types(self, shop):
        seen = []

        def lengths(texts):
            seen.extend(texts)
            return [[len(text)] for text in texts]

        table = {
            "article": ["007", "x", "y", "z"],
            "price": [1.5, float("nan"), None, 2.0],
            "tags": [["a", "b"], [], None, ["c"]],
        }
        pq.write_table(pa.table(table), shop / "names.parquet")
        content = {"content": {"text": "names.parquet"}, "encode": {"text": lengths}}
        item = load("csv", shop, file="interactions.csv", **NAMES, **content)[0]["item"]
        assert seen == ["1.5\na b", "2\nc"]
        assert item.has_text.tolist() == [True, False, False]
        pq.write_table(pa.table({"article": ["x"], "t": [{"a": 1}]}), shop / "names.parquet")
        with pytest.raises(DataError, match=r"names\.parquet holds struct.*, which is no text"):
            load("csv", shop, file="interactions.csv", **NAMES, **content)

    def test_an_encoder_that_gives_something_else(self, shop):
        arguments = {**NAMES, "content": {"text": "names.csv"}}
        with pytest.raises(DataError, match=r"made \[2\] of 3 contents of names\.csv"):
            load("csv", shop, **arguments, encode={"text": lambda texts: [1, 2]})

    def test_a_folder_without_images(self, shop):
        (shop / "empty").mkdir()
        with pytest.raises(DataError, match="empty holds no images"):
            load("csv", shop, **NAMES, content={"image": "empty"}, encode={"image": len})


def test_the_folder_may_be_used_directly(folder):
    FRAME.assign(split=["train", "val", "train", "test", "test", "train", "train"]).to_parquet(
        folder / "a.parquet"
    )
    data = InteractionLog(folder, **NAMES)[0]
    assert named(data, "val_edge_label_index") == [("a", "x")]
