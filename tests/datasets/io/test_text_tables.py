"""Text tables are read as by Python's csv module, wherever a block ends."""

import csv
import gzip
import io
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from graphdiff.datasets import RecBoleLayout, from_frame, load
from graphdiff.datasets.convert import convert
from graphdiff.datasets.io import text
from graphdiff.datasets.io.tables import column_names, read_table
from graphdiff.datasets.io.text import open_quote
from graphdiff.errors import ConfigError, DataError
from graphdiff.schema import raw_ids

PARTS = ["a", "b", "FAKE", '"', ",", ";", "|", "é", "::", "\n", "\r\n", "\t", " ", "世", "1"]
VALUES = st.lists(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).map("".join), max_size=12
)
DELIMITERS = [",", ";", "|", "é", "::", "\t", "\\t", "\x01", "ab", "§§§"]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))


def ids_of(data, node="user"):
    return raw_ids(data, node, range(data[node].num_nodes))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    values=VALUES,
    delimiter=st.sampled_from([",", ";", "|", "é"]),
    block=st.sampled_from([16, 64, 4096]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
@example(values=["a\nFAKE,FAKE"] * 8, delimiter=",", block=16, line_end="\n")
def test_kind_c_quoted_values_survive_wherever_a_block_ends(
    tmp_path, monkeypatch, values, delimiter, block, line_end
):
    monkeypatch.setattr(text, "BLOCK", block)
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=line_end)
    rows = [[f"u{n}", value, "x"] for n, value in enumerate(values)]
    writer.writerows([["user", "comment", "item"], *rows])
    (tmp_path / "log.csv").write_bytes(file.getvalue().encode())
    found = read_table(tmp_path / "log.csv", ids=("comment",), delimiter=delimiter)
    # What pandas and most programs write is what csv reads.
    again = list(csv.reader(io.StringIO(file.getvalue(), newline=""), delimiter=delimiter))
    assert again[1:] == rows
    assert [list(row.values()) for row in found.to_pylist()] == rows


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=VALUES, delimiter=st.sampled_from(DELIMITERS))
def test_kind_c_delimiters_of_any_length_separate_columns(tmp_path, values, delimiter):
    written = "\t" if delimiter == "\\t" else delimiter
    # Without quotes a value cannot hold what separates values, nor begin with a quote.
    plain = [v.replace("\n", "").replace("\r", "").replace('"', "") for v in values]
    plain = [v.replace(written, "").replace(written[0], "").strip() or "v" for v in plain]
    rows = [[f"u{n}", value, "7"] for n, value in enumerate(plain)]
    lines = [written.join(row) for row in [["user", "comment", "item"], *rows]]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    read = {"delimiter": text_delimiter(delimiter)}
    assert column_names(tmp_path / "log.csv", **read) == ["user", "comment", "item"]
    found = read_table(tmp_path / "log.csv", ids=("comment", "item"), **read)
    assert [list(row.values()) for row in found.to_pylist()] == rows


def text_delimiter(written):
    return "\t" if written == "\\t" else written


def test_kind_c_a_large_file_of_two_line_comments_has_no_users_of_its_own(tmp_path):
    rows = [
        f'u{n},i{n % 50},"good\nFAKEU,FAKEI,and so on, and on{"!" * (n % 7)}"\n'
        if n % 2
        else f"u{n},i{n % 50},plain\n"
        for n in range(60_000)
    ]
    (tmp_path / "log.csv").write_text("user,item,comment\n" + "".join(rows))
    assert (tmp_path / "log.csv").stat().st_size > 1.5 * 2**20
    data = load("csv", tmp_path, split="leave_one_out")[0]
    assert data["user"].num_nodes == 60_000
    assert "FAKEU" not in data["user"].raw_id
    assert data["item"].num_nodes == 50


def test_kind_c_content_with_line_breaks_is_one_text(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "BLOCK", 64)
    (tmp_path / "log.csv").write_text("user,item\n" + "".join(f"1,{n}\n" for n in range(40)))
    texts = "".join(f'{n},"first line {n}\n99,second line"\n' for n in range(40))
    (tmp_path / "texts.csv").write_text("item,text\n" + texts)
    seen = []

    def encode(found):
        seen.extend(found)
        return np.ones((len(found), 1))

    load("csv", tmp_path, file="log.csv", content={"text": "texts.csv"}, encode={"text": encode})
    assert seen == [f"first line {n}\n99,second line" for n in range(40)]


def test_kind_c_a_row_may_be_longer_than_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "BLOCK", 64)
    long = "long " * 200
    (tmp_path / "log.csv").write_text(f'user,item,c\na,1,"{long}\n{long}"\nb,2,x\n')
    assert read_table(tmp_path / "log.csv")["c"].to_pylist() == [f"{long}\n{long}", "x"]
    (tmp_path / "log.tsv").write_text(f"user\titem\tc\na\t1\t{long}\nb\t2\tx\n")
    assert read_table(tmp_path / "log.tsv")["c"].to_pylist() == [long, "x"]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('a,1,x\nb,2,"open\nc,3,y\nd,4,z\n', 3),
        ('a,1,"open', 2),
        ('a,1,"ok"\nb,2,"two ""quotes"" and open\nc,3,y\n', 3),
        ('a,1,5" pipe\nb,2,"open\nc,3,y\n', 3),
        ('"a",1,5" pipe\nb,2,"open\nc,3,y\n\n', 3),
    ],
)
def test_kind_c_a_quote_that_is_never_closed_is_refused(rows, line, tmp_path):
    (tmp_path / "log.csv").write_text("user,item,c\n" + rows)
    with pytest.raises(DataError, match=rf"log\.csv line {line} opens a quote that is never clo"):
        load("csv", tmp_path)


def test_kind_c_a_quote_within_a_value_is_a_character(tmp_path):
    (tmp_path / "log.csv").write_text('user,item,c\na,1,5" pipe\nb,2,6"\nc,3,7" wide\n')
    assert load("csv", tmp_path)[0]["user"].raw_id == ["a", "b", "c"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(['"', '""', ",", "\n", "x"]), max_size=12).map("".join))
def test_kind_c_open_quotes_are_those_of_the_csv_module(content):
    # A row that follows is swallowed exactly if a quote is still open.
    rows = list(csv.reader(io.StringIO(content + "\nnext,row\n", newline="")))
    swallowed = not rows or rows[-1] != ["next", "row"]
    assert (open_quote(content.encode(), b",") is not None) == swallowed


RATINGS = "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n"
NAMES = ["user", "item", "rating", "timestamp"]


def test_kind_c_the_ratings_of_movielens_are_read_as_published(tmp_path):
    (tmp_path / "ratings.dat").write_text(RATINGS)
    data = load("csv", tmp_path, file="ratings.dat", delimiter="::", names=NAMES, by="time")[0]
    assert (ids_of(data), ids_of(data, "item")) == ([1, 2], [661, 1193])
    with pytest.raises(DataError, match=r"5::978300760.*delimiter=\"::\""):
        load("csv", tmp_path, file="ratings.dat")


@pytest.mark.parametrize("delimiter", ["", "\n", "a\r", '"', ';"', "\0"])
def test_kind_c_delimiters_that_cannot_be_are_refused(delimiter, tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n1,2\n")
    with pytest.raises(ConfigError, match=r"delimiter=.*: expected one or more characters"):
        load("csv", tmp_path, delimiter=delimiter)


@pytest.mark.parametrize(("written", "meant"), [("\\t", "\t"), ("\\x01", "\x01"), ("\\x7C", "|")])
def test_kind_c_an_escape_stands_for_its_character(written, meant, tmp_path):
    (tmp_path / "log.csv").write_text(f"user{meant}item\n1{meant}2\n")
    assert ids_of(load("csv", tmp_path, delimiter=written)[0], "item") == [2]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
@pytest.mark.parametrize("compression", ["", ".gz", ".bz2", ".zst", ".lz4"])
@pytest.mark.parametrize("given", [True, False])
def test_kind_c_compressed_tables_are_found_and_split_by_their_inner_suffix(
    suffix, compression, given, tmp_path
):
    separator = "," if suffix == ".csv" else "\t"
    rows = f"user{separator}item\na|b{separator}1\n"
    name = f"log{suffix}{compression}"
    kinds = {"": None, ".gz": "gzip", ".zst": "zstd"}
    kind = kinds.get(compression, compression.removeprefix("."))
    with pa.output_stream(str(tmp_path / name), compression=kind) as file:
        file.write(rows.encode())
    data = load("csv", tmp_path, **({"file": name} if given else {}))[0]
    assert (ids_of(data), ids_of(data, "item")) == (["a|b"], [1])


def test_kind_c_parts_of_a_folder_may_be_compressed(tmp_path):
    (tmp_path / "interactions.csv.gz").write_bytes(gzip.compress(b"user,item\nb,y\na,x\n", mtime=0))
    (tmp_path / "items.tsv.gz").write_bytes(gzip.compress(b"item\ty\ny\t1\nx\t2\n", mtime=0))
    (tmp_path / "features_f.csv.gz").write_bytes(gzip.compress(b"item,x_0\nx,5\ny,6\n", mtime=0))
    data = load("csv", tmp_path)[0]
    assert data["item"].raw_id == ["y", "x"]
    assert data["item"].x_f.tolist() == [[6], [5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"user,item\n1,2\n", mtime=0), "but compressed with gzip; call it .gz"),
        (b"PK\x03\x04rest", "but a zip archive; unpack it first"),
        (b"PAR1rest", "but a Parquet file; call it .parquet"),
        ("user,item\n1,2\n".encode("utf-16"), "but UTF-16; save it as UTF-8"),
        ("user,item\né,2\n".encode("latin-1"), "save it as UTF-8"),
    ],
)
def test_kind_c_files_that_are_something_else_are_named(content, message, tmp_path):
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load("csv", tmp_path)


@pytest.mark.parametrize(
    ("rows", "hint"),
    [
        ("user;item\na;1\n", '";"'),
        ("user;item;price\na;1;2,5\n", '";"'),
        ("user|item\na|1\n", r'"\|"'),
        ("user\titem\na\t1\n", r'"\\t"'),
        ("user::item\na::1\n", '"::"'),
    ],
)
def test_kind_c_another_delimiter_is_suggested(rows, hint, tmp_path):
    (tmp_path / "log.csv").write_text(rows)
    with pytest.raises(
        DataError, match=rf"say what separates its columns, such as delimiter={hint}"
    ):
        load("csv", tmp_path)


def test_kind_c_a_file_without_a_header_is_recognised(tmp_path):
    (tmp_path / "log.csv").write_text("1,1193,5\n1,661,3\n")
    with pytest.raises(DataError, match=r"the columns 1, 1193, 5, but not .*names=\[…\] if the fi"):
        load("csv", tmp_path)
    (tmp_path / "log.csv").write_text("5,5,3\n1,661,3\n")
    with pytest.raises(DataError, match=r"names=\[…\] if the file has no header"):
        load("csv", tmp_path)


TWICE = "2 columns called 'user'; give each a name of its own"


class TestRepeatedNames:
    def test_kind_c_in_text(self, tmp_path):
        (tmp_path / "log.csv").write_text("user,item,user\na,1,x\n")
        with pytest.raises(DataError, match=TWICE):
            load("csv", tmp_path)
        with pytest.raises(DataError, match=TWICE):
            load("csv", tmp_path, names=["user", "item", "user"])

    def test_kind_c_in_parquet_and_arrow(self, tmp_path):
        table = pa.Table.from_arrays([pa.array([1, 2])] * 3, ["user", "item", "user"])
        pq.write_table(table, tmp_path / "log.parquet")
        with pytest.raises(DataError, match=TWICE):
            load("parquet", tmp_path)
        with pytest.raises(DataError, match=TWICE):
            from_frame(table)

    def test_kind_c_in_a_data_frame(self):
        with pytest.raises(DataError, match=TWICE):
            from_frame(pd.DataFrame([[1, 2, 3]], columns=["user", "item", "user"]))
        # What is not read may be called as it likes.
        odd = pd.DataFrame([[1, 2, 3, 4]], columns=["user", "item", "x", "x"])
        assert from_frame(odd)["user"].num_nodes == 1

    def test_kind_c_in_lists_of_ids_and_features(self, tmp_path):
        (tmp_path / "interactions.csv").write_text("user,item\na,1\n")
        (tmp_path / "users.csv").write_text("user,user\na,b\n")
        with pytest.raises(DataError, match=r"users\.csv has 2 columns called 'user'"):
            load("csv", tmp_path)
        (tmp_path / "users.csv").unlink()
        (tmp_path / "features_f.csv").write_text("item,x_0,x_0\n1,2,3\n")
        with pytest.raises(DataError, match=r"features_f\.csv has 2 columns called 'x_0'"):
            load("csv", tmp_path)

    def test_kind_c_in_toolbox_layouts(self, tmp_path):
        path = tmp_path / "a.inter"
        path.write_text("user_id:token\titem_id:token\tuser_id:float\n1\t1\t4\n")
        with pytest.raises(DataError, match="2 columns called 'user_id'"):
            load("recbole", tmp_path)
        path.write_text("userID\titemID\tuserID\tx_label\n1\t1\t4\t0\n")
        with pytest.raises(DataError, match="2 columns of users"):
            load("mmrec", tmp_path)


class TestFoldersOfParts:
    def parts(self, tmp_path, *tables, names=None):
        folder = tmp_path / "interactions.parquet"
        folder.mkdir()
        for name in ("_SUCCESS", "._SUCCESS.crc", ".part-0.parquet.crc"):
            (folder / name).write_bytes(b"x")
        for n, table in enumerate(tables):
            path = folder / (names[n] if names else f"part-0000{n}-c000.snappy.parquet")
            path.parent.mkdir(exist_ok=True)
            pq.write_table(pa.table(table), path)
        return folder

    def test_kind_c_the_output_of_spark_is_one_table(self, tmp_path):
        self.parts(
            tmp_path,
            {"user": ["b", "a"], "item": [2, 1], "extra": [1, 2]},
            {"item": pa.array([3], pa.int32()), "user": ["c"]},
            {"user": pa.array([], pa.string()), "item": pa.array([], pa.int64())},
        )
        data = load("parquet", tmp_path)[0]
        assert (ids_of(data), ids_of(data, "item")) == (["a", "b", "c"], [1, 2, 3])

    def test_kind_c_names_of_folders_are_columns(self, tmp_path):
        names = [f"split={split}/part-0.parquet" for split in ("train", "val", "test")]
        tables = [{"user": [1], "item": [n]} for n in range(3)]
        self.parts(tmp_path, *tables, names=names)
        data = load("parquet", tmp_path)[0]
        edges = data["user", "interacts", "item"]
        assert edges.edge_index.tolist() == [[0], [0]]
        assert edges.test_edge_label_index.tolist() == [[0], [2]]
        self_missing = tmp_path / "interactions.parquet" / "split=__HIVE_DEFAULT_PARTITION__"
        self_missing.mkdir()
        pq.write_table(pa.table({"user": [1, 2], "item": [7, 7]}), self_missing / "part-1.parquet")
        with pytest.raises(DataError, match="2 rows have no split"):
            load("parquet", tmp_path)

    def test_kind_c_a_new_part_is_noticed(self, tmp_path):
        folder = self.parts(tmp_path, {"user": [1], "item": [1]})
        assert load("parquet", tmp_path)[0]["user"].num_nodes == 1
        pq.write_table(pa.table({"user": [2], "item": [1]}), folder / "part-1.parquet")
        assert load("parquet", tmp_path)[0]["user"].num_nodes == 2

    def test_kind_c_parts_of_text(self, tmp_path):
        folder = tmp_path / "interactions.csv"
        folder.mkdir()
        (folder / "part-0.csv").write_text("user,item\na,1\n")
        (folder / "part-1.csv.gz").write_bytes(gzip.compress(b"user,item\nb,1.5\n", mtime=0))
        data = load("csv", tmp_path)[0]
        assert (ids_of(data), ids_of(data, "item")) == (["a", "b"], ["1", "1.5"])

    def test_kind_c_an_empty_folder_is_named(self, tmp_path):
        (tmp_path / "interactions.parquet").mkdir()
        with pytest.raises(DataError, match=r"is a folder without any \.parquet file in it"):
            load("parquet", tmp_path)


HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


class TestRecBole:
    def parts(self, tmp_path, **parts):
        for split, rows in parts.items():
            rows = rows if rows.startswith("user_id") else HEADER + rows
            (tmp_path / f"toys.{split}.inter").write_text(rows)
        return tmp_path

    @pytest.mark.parametrize(
        ("valid", "items"),
        [
            ("1\t3\t4.5\t7\n", [1, 2, 3, 4]),
            ("1\t3\tx\t7\n", [1, 2, 3, 4]),
            ("1\t3\t\t\n", [1, 2, 3, 4]),
            ("", [1, 2, 4]),
            ("user_id:token\titem_id:token\n1\t3\n", [1, 2, 3, 4]),
            ("user_id:token\trating:float\titem_id:token\n1\t4\t3\n", [1, 2, 3, 4]),
            ("user_id:token\titem_id:token\trating:token\n1\t3\t4\n", [1, 2, 3, 4]),
        ],
    )
    @pytest.mark.filterwarnings("ignore:the column of (rating|timestamp)s is ignored")
    def test_kind_c_parts_may_differ_in_columns_and_types(self, valid, items, tmp_path):
        folder = self.parts(
            tmp_path, train="1\t1\t4\t5\n1\t2\t3\t6\n", valid=valid, test="1\t4\t3\t8.5\n"
        )
        data = load("recbole", folder)[0]
        assert ids_of(data, "item") == items
        edges = data["user", "interacts", "item"]
        assert edges.edge_index.size(1) == 2
        assert edges.val_edge_label_index.size(1) == len(items) - 3

    def test_kind_c_ratings_of_all_parts_count(self, tmp_path):
        folder = self.parts(
            tmp_path, train="1\t1\t4\t5\n1\t2\t3\t6\n", valid="1\t3\t4.5\t1\n", test="1\t4\t\t8\n"
        )
        assert ids_of(load("recbole", folder, min_rating=4)[0], "item") == [1, 3]

    def test_kind_c_blanks_between_numbers_do_not_count(self, tmp_path):
        (tmp_path / "toys.inter").write_text(HEADER + "1\t1\t4\t5\n1\t2\t3\t6\n")
        lines = "1\t1  2 3\n2\t 4 5   6 \n3\t\n"
        (tmp_path / "toys.item").write_text("item_id:token\tv:float_seq\n" + lines)
        item = RecBoleLayout(tmp_path)[0]["item"]
        assert item.x_v.tolist() == [[1, 2, 3], [4, 5, 6]]


MMREC = {
    "userID\titemID\tx_label": "{u}\t{i}\t{l}",
    "itemID\tuserID\tx_label": "{i}\t{u}\t{l}",
    "x_label\trating\titem_id\tuser_id": "{l}\t5\t{i}\t{u}",
    "timestamp\tUser\tItem\tx_label": "9\t{u}\t{i}\t{l}",
    "user_id:token\tx_label:float\titem_id:token": "{u}\t{l}\t{i}",
}


class TestMMRec:
    @pytest.mark.parametrize("header", MMREC)
    def test_kind_c_columns_go_by_their_names(self, header, tmp_path):
        rows = "".join(MMREC[header].format(u=u, i=u + 3, l=u % 3) + "\n" for u in range(6))
        (tmp_path / "a.inter").write_text(header + "\n" + rows)
        data = load("mmrec", tmp_path)[0]
        assert (data["user"].num_nodes, data["item"].num_nodes) == (6, 9)
        edges = data["user", "interacts", "item"]
        assert edges.edge_index.tolist() == [[0, 3], [3, 6]]
        assert edges.val_edge_label_index.tolist() == [[1, 4], [4, 7]]

    def test_kind_c_names_that_say_nothing_are_refused_unless_explained(self, tmp_path):
        (tmp_path / "a.inter").write_text("reviewer\tasin\tx_label\n0\t1\t0\n")
        with pytest.raises(DataError, match=r"no column of users; .* or say which with user=NAME"):
            load("mmrec", tmp_path)
        data = load("mmrec", tmp_path, user="reviewer", item="asin")[0]
        assert (data["user"].num_nodes, data["item"].num_nodes) == (1, 2)

    @pytest.mark.parametrize("number", ["1_0", "１", "1.0", "", "0x1", "1e3"])
    def test_kind_c_a_number_is_written_in_plain_digits(self, number, tmp_path):
        (tmp_path / "a.inter").write_text(f"userID\titemID\tx_label\n{number}\t0\t0\n")
        with pytest.raises(DataError, match=r"a\.inter line 2: .*expected integers"):
            load("mmrec", tmp_path)


@pytest.mark.parametrize(
    "lists",
    ['{"1_0": [1]}', '{"0": [true]}', '{"0": [[1], [2]]}', '{"0": [1], "0": [2]}', '{"0": [1.0]}',
     '{"0": [null]}', '{"0": "12"}', '{"0": {"1": 2}}', '{"0": [NaN]}'],
)  # fmt: skip
def test_kind_c_lists_of_items_are_lists_of_integers(lists, tmp_path):
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.json").write_text(lists if name == "train" else "{}")
    with pytest.raises(DataError, match=r"train\.json cannot be read as lists of items by user"):
        load("diffmm", tmp_path)


@pytest.mark.parametrize("layout", ["csv", "recbole", "mmrec", "diffmm"])
def test_kind_c_a_byte_order_mark_is_no_part_of_a_name(layout, tmp_path):
    texts = {
        "csv": {"a.csv": "user,item\n0,1\n"},
        "recbole": {"a.inter": "user_id:token\titem_id:token\n0\t1\n"},
        "mmrec": {"a.inter": "userID\titemID\tx_label\n0\t1\t0\n"},
        "diffmm": {"train.json": '{"0": [1]}', "val.json": "{}", "test.json": "{}"},
    }
    for name, content in texts[layout].items():
        (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert load(layout, tmp_path)[0]["user"].num_nodes == 1


TOYS = "userID\titemID\tx_label\n0\t0\t0\n1\t1\t0\n"
DATA = {
    "mmrec": {"toys.inter": TOYS},
    "recbole": {"toys.inter": "user_id:token\titem_id:token\n0\t0\n1\t1\n"},
    "csv": {"ratings.csv": "user,item\n0,0\n1,1\n"},
}
JUNK = {
    "__MACOSX/._toys": "\0\5",
    "__MACOSX/toys/._toys.inter": "\0\5",
    "toys/._toys.inter": "\0\5",
    "toys/._ratings.csv": "\0\5",
    "toys/.DS_Store": "\0",
    ".DS_Store": "\0",
    "Thumbs.db": "\0",
}
DOCUMENTS = ["LICENSE", "README", "README.md", "README.txt", "readme_first.txt", "LICENSE.txt"]


@pytest.mark.parametrize("layout", DATA)
@pytest.mark.parametrize("where", ["", "toys/"])
@pytest.mark.parametrize("beside", ["junk", "documents without", "documents within", "all"])
def test_kind_c_archives_are_read_whatever_lies_beside_the_data(layout, where, beside, tmp_path):
    files = {where + name: content for name, content in DATA[layout].items()}
    if beside in ("junk", "all"):
        files |= JUNK
    if beside in ("documents without", "all"):
        files |= dict.fromkeys(DOCUMENTS, "read me\n")
    if beside in ("documents within", "all"):
        files |= {where + name: "read me\n" for name in DOCUMENTS}
    with zipfile.ZipFile(tmp_path / "toys.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    meta = convert(tmp_path / "toys.zip", tmp_path / "out", layout)
    assert (meta["users"], meta["items"]) == (2, 2)
    # The same, unpacked by hand.
    folder = tmp_path / "by-hand"
    with zipfile.ZipFile(tmp_path / "toys.zip") as archive:
        archive.extractall(folder)
    assert load(layout, folder / where)[0]["user"].num_nodes == 2
