import json
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graphdiff.datasets import (
    InteractionLog,
    RecBoleLayout,
    SyntheticMultimedia,
    from_frame,
    to_parquet,
)
from graphdiff.datasets.published.synthetic_pictures import COLOURS, SHAPES, draw_styles
from graphdiff.datasets.published.synthetic_truth import STYLES
from graphdiff.datasets.published.synthetic_words import LOOKS, SOUNDS, SUBJECTS
from graphdiff.errors import DataError
from graphdiff.schema import ItemDetails, fingerprint

LOG = "user,item\n" + "".join(f"{u},{i}\n" for u in range(6) for i in (7, 8, 9, 10, 11))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHDIFF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "interactions.csv").write_text(LOG)
    return tmp_path / "log"


def titles(data):
    ids = data["item"].raw_id.tolist()
    return dict(zip(ids, data["item"].title, strict=True))


def items_csv(folder, header="item_id,title,category,image", extra=""):
    rows = [f'{i},"Mug, {i}",{"cups" if i % 2 else ""},img/{i}.png' for i in (11, 10, 9, 8, 7)]
    (folder / "items.csv").write_text("\n".join([header, *rows]) + "\n" + extra)


def test_a_text_file_gives_titles_in_the_order_of_the_items(folder):
    items_csv(folder, extra="12,New one,,\n")
    data = InteractionLog(folder)[0]
    assert titles(data)[7] == "Mug, 7"
    assert titles(data)[12] == "New one"
    assert data["item"].num_nodes == 6
    index = data["item"].raw_id.tolist().index(10)
    assert ItemDetails.from_data(data).of(index) == {"title": "Mug, 10", "image": "img/10.png"}


def test_changed_titles_are_read_anew(folder):
    items_csv(folder)
    assert titles(InteractionLog(folder)[0])[7] == "Mug, 7"
    text = (folder / "items.csv").read_text()
    (folder / "items.csv").write_text(text.replace("Mug, 7", "Cup, 7"))
    assert titles(InteractionLog(folder)[0])[7] == "Cup, 7"


def test_columns_of_other_names(folder):
    items_csv(folder, header="item,prod_name,kind,image")
    data = InteractionLog(folder, title="prod_name")[0]
    assert titles(data)[9] == "Mug, 9"
    assert "category" not in data["item"]
    with pytest.raises(DataError, match=r"items\.csv has the columns .*, but not nme"):
        InteractionLog(folder, title="nme")
    (folder / "items.csv").unlink()
    with pytest.raises(DataError, match="where the column of title is looked for"):
        InteractionLog(folder, title="prod_name")


def test_parquet_with_lists_numbers_and_missing_values(folder):
    table = {
        "item": pa.array([7, 8, 9, 10, 11]),
        "title": pa.array([1984, None, 3, 4, 5]),
        "category": pa.array([["a", "b"], [], None, ["c"], ["d"]]),
    }
    pq.write_table(pa.table(table), folder / "items.parquet")
    item = InteractionLog(folder)[0]["item"]
    assert item.title == ["1984", "", "3", "4", "5"]
    assert item.category == ["a, b", "", "", "c", "d"]


def test_features_called_as_a_detail_are_refused(folder):
    table = {"item": pa.array([7, 8, 9, 10, 11]), "image": pa.array([[0.5]] * 5)}
    pq.write_table(pa.table(table), folder / "items.parquet")
    with pytest.raises(DataError, match=r"holds list<.*>; give text; call features x_image"):
        InteractionLog(folder)


def test_an_item_with_two_rows_is_refused(folder):
    items_csv(folder, extra="7,Again,,\n")
    with pytest.raises(DataError, match="more than one row"):
        InteractionLog(folder)


def test_a_frame_of_details():
    log = pd.DataFrame({"customer": list("aabbcc") * 3, "sku": ["x", "y", "z"] * 6})
    details = pd.DataFrame({"sku": ["z", "x", "other"], "title": ["Zed", "Ex", "Other"]})
    settings = {"user": "customer", "item": "sku", "split": "leave_one_out"}
    data = from_frame(log, details=details, **settings)
    assert data["item"].raw_id == ["x", "y", "z"]
    assert data["item"].title == ["Ex", "", "Zed"]
    assert fingerprint(data) == fingerprint(from_frame(log, **settings))
    with pytest.raises(DataError, match="the details have the columns sku; give sku or item"):
        from_frame(log, details=details[["sku"]], **settings)
    with pytest.raises(DataError, match="more than one row"):
        from_frame(log, details=pd.concat([details, details]), **settings)


@pytest.mark.parametrize("named", [True, False])
def test_parquet_files_keep_details(folder, tmp_path, named):
    items_csv(folder)
    data = InteractionLog(folder)[0]
    if not named:
        del data["item"].raw_id
    to_parquet(data, tmp_path / "out")
    again = InteractionLog(tmp_path / "out")[0]
    assert ItemDetails.from_data(again) == ItemDetails.from_data(data)
    assert fingerprint(again) == fingerprint(data)
    assert ("items" in json.loads((tmp_path / "out/meta.json").read_text())["unnamed"]) != named


def test_fields_of_recbole(folder):
    rows = LOG.replace("user,item", "user_id:token,item_id:token").replace(",", "\t")
    (folder / "interactions.csv").unlink()
    (folder / "shop.inter").write_text(rows)
    (folder / "shop.item").write_text(
        "item_id:token\tmovie_title:token_seq\tcategory:token\n7\tToy Story\tfilm\n8\tHeat\tfilm\n"
    )
    with pytest.raises(DataError, match="not movie, which title=movie names"):
        RecBoleLayout(folder, title="movie")
    data = RecBoleLayout(folder, title="movie_title")[0]
    assert titles(data) == {7: "Toy Story", 8: "Heat", 9: "", 10: "", 11: ""}
    assert data["item"].category[0] == "film"
    (folder / "shop.item").unlink()
    with pytest.raises(DataError, match=r"no \.item file, where the field of title is looked for"):
        RecBoleLayout(folder, title="movie_title")


def test_there_is_a_name_and_a_colour_for_every_style():
    assert len(set(LOOKS)) == len(set(SOUNDS)) == len(set(COLOURS)) == STYLES
    assert len({name for group in SUBJECTS.values() for name in group}) == STYLES


def test_pictures_are_drawn_from_the_style_of_the_image():
    style = np.array([3, 11, 3])
    one, other, none = draw_styles(style, np.array([True, True, False]))
    assert none == ""
    for picture, number in ((one, 3), (other, 11)):
        kind, _, svg = picture.partition(",")
        assert kind == "data:image/svg+xml"
        root = ElementTree.fromstring(unquote(svg))
        assert {part.get("fill") for part in root} == {COLOURS[number]}
        assert root[1].get("d") == SHAPES[3]  # eight shapes for 32 styles


def test_synthetic_items_have_a_picture_where_they_have_an_image():
    data = SyntheticMultimedia(num_users=60, num_items=50)[0]
    assert [bool(one) for one in data["item"].image] == data["item"].has_image.tolist()
