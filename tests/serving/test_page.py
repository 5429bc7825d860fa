"""The page and the documentation of endpoints: by Node without a browser, and in Chromium."""

import json
import re
import shutil
import subprocess
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import torch

from graphdiff.schema import ItemDetails
from tests.serving.client import local, make, serving

NODE = shutil.which("node")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SCRIPT = files("graphdiff.serving") / "page" / "page.js"
PIXEL = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'/%3E"
HOSTILE = "<img src=x onerror=alert(1)>"


def titled(**settings):
    """A model with titles, one of which looks like markup, and images from two places."""
    model = make(**settings)
    num = model.num_items
    model.catalogue.details = ItemDetails(
        num,
        {
            "title": [f"Golden harbour {n}" for n in range(num - 1)] + [HOSTILE],
            "category": ["Travel"] * num,
            "image": [PIXEL, "https://pictures.example/1.png", *[""] * (num - 2)],
        },
    )
    return model


def test_pages_hold_no_address_of_another_site():
    with local(make()) as client:
        for path in ("/", "/docs", "/page.js", "/page.css", "/docs.js"):
            answer = client.get(path)
            assert answer.status_code == 200
            found = set(re.findall(r"https?://[^\s\"'`]+", answer.text))
            assert found <= {"http://www.w3.org/2000/svg"}  # the name of a format
            assert "innerHTML" not in answer.text
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
        for path in ("/swagger-ui-bundle.js", "/swagger-ui.css", "/icon.svg", "/openapi.json"):
            assert client.get(path).status_code == 200
        assert client.get("/redoc").status_code == 404


@pytest.mark.skipif(NODE is None, reason="no node on PATH")
def test_kind_f_the_page_keeps_ids_as_text():
    ids = [HOSTILE, "a,b", "50%25", "9007199254740993", " x", "é&=#+", '"']
    command = [NODE, Path(__file__).with_name("page.js"), str(SCRIPT)]
    done = subprocess.run(command, input=json.dumps(ids), capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert ["recommend", {"history": ids, "k": 12}] in found["requests"]
    assert ["explain", {"history": ids, "items": ids, "num_items": 8}] in found["requests"]
    asked = next(path for path, _ in found["requests"] if path.startswith("items?item="))
    assert parse_qs(urlsplit(asked).query)["item"] == ids
    assert found["shown"] == ids
    assert found["reasons"] == [f"Because of {one}: similar image" for one in ids]
    assert found["address"] == [*ids[1:], "added"]
    assert found["status"] == f"{len(ids)} items recommended."
    assert found["gateHidden"]


@contextmanager
def browsing(address, **context):
    """Yield a page in Chromium; it must cause no error and ask no other site."""
    if BROWSER is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(**context)
        errors, asked = [], []
        page.on("console", lambda one: errors.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda one: errors.append(str(one)))
        page.on("request", lambda one: asked.append(one.url))
        page.goto(address)
        yield page
        assert errors == []
        origin = "{0.scheme}://{0.netloc}/".format(urlsplit(address))
        assert [one for one in asked if not one.startswith((origin, "data:"))] == []
        browser.close()


def wait_for(page, selector, **condition):
    """Wait for text in an element, or for a number of elements."""
    from playwright.sync_api import expect

    if "count" in condition:
        expect(page.locator(selector)).to_have_count(condition["count"])
    else:
        expect(page.locator(selector)).to_contain_text(condition["text"])


def titles(page):
    wait_for(page, "#status", text="recommended")
    return page.locator("#best h3").all_inner_texts()


def test_a_user_is_put_together_by_clicks():
    model = titled()
    with serving(model) as server, browsing(str(server.base_url)) as page:
        page.wait_for_selector("#found button")
        page.fill("#search", "harbour 14")
        wait_for(page, "#found li", count=1)
        page.click("#found button")
        expected = model.recommend(history_index=[[14]], k=12)[0][0].tolist()
        shown = [one.removesuffix("new").strip() for one in titles(page)]
        assert shown == [model.catalogue.details.title(n) for n in expected]
        assert "history=item-14" in page.url
        new = [n for n in expected if not model.graph.item_degree()[n]]
        assert page.locator("#best .new").count() == len(new)

        page.wait_for_selector("#best .because q")
        why = model.explain(item_index=expected[0], history_index=[[14]])
        (item, words), *_ = why.because()
        assert item == 14
        reason = page.locator("#best .because").first.inner_text()
        assert reason == f"Because of Golden harbour 14: {', '.join(words)}"
        page.locator("#best li").first.get_by_text("Why?").click()
        panel = page.locator("#best .why")
        assert f"Score {why.score:.2f} by item of the history" in panel.inner_text()
        bars = panel.locator("ul").first.locator("output").all_inner_texts()
        assert sum(map(float, bars)) == pytest.approx(why.score, abs=0.02)
        assert panel.locator("svg path").count() == len(why.links)

        page.locator("#best li").first.get_by_text("Similar", exact=True).click()
        wait_for(page, "#found-title", text="Similar to ")
        similar = model.similar_items(expected[0], k=12)[0][0].tolist()
        found = page.locator("#found .name").all_inner_texts()
        for one, n in zip(found, similar, strict=True):
            assert one.startswith(model.catalogue.details.title(n))
        page.reload()  # the address keeps the history
        assert titles(page)
        page.click("#history button")
        wait_for(page, "#best > li", count=0)
        assert "history=" not in page.url


def test_titles_are_text_and_images_come_from_allowed_hosts_only():
    model = titled()
    address = "?history=item-39&history=item-0&history=item-1"
    with serving(model) as server, browsing(f"{server.base_url}{address}") as page:
        assert titles(page)
        assert page.locator("#history button").first.inner_text().endswith(f"{HOSTILE} ×")
        # The second is of a host that is not allowed, the third has none.
        assert page.locator("#history img").count() == 1


@pytest.mark.parametrize("gated", [False, True])
def test_weights_of_modalities_are_shown_where_users_differ(gated):
    model = titled(gated=gated)
    if gated:
        with torch.no_grad():
            for parameter in model.gate.parameters():
                torch.nn.init.normal_(parameter, std=3)
        model.invalidate_tables()
    with serving(model) as server:
        body = {"history": ["item-1"], "k": 1}
        assert server.post("/recommend", json=body).json()["gate_is_personal"] == gated
        with browsing(f"{server.base_url}?history=item-1") as page:
            assert titles(page)
            assert page.locator("#gate-part").is_visible() == gated
            if gated:
                assert page.locator("#gate li").count() == 2


def test_bars_start_at_zero():
    model = titled()
    with serving(model) as server, browsing(f"{server.base_url}?history=item-1") as page:
        assert titles(page)
        scores = [float(one) for one in page.locator("#best .score output").all_inner_texts()]
        width = "one => parseFloat(one.style.width)"
        widths = [one.evaluate(width) for one in page.locator("#best .score i").all()]
        scale = max(0, *scores) - min(0, *scores)
        for score, found in zip(scores, widths, strict=True):
            assert found == pytest.approx(100 * abs(score) / scale, abs=1)


def test_it_fits_a_phone_and_follows_the_colour_scheme():
    model, colours = titled(), []
    with serving(model) as server:
        for scheme in ("light", "dark"):
            phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme}
            with browsing(f"{server.base_url}?history=item-39", **phone) as page:
                assert titles(page)
                page.locator("#best li").first.get_by_text("Why?").click()
                assert page.evaluate("document.documentElement.scrollWidth") <= 360
                colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]


def test_the_documentation_of_endpoints_needs_no_other_site():
    with serving(make()) as server, browsing(f"{server.base_url}/docs") as page:
        page.wait_for_selector(".opblock")
        shown = page.locator(".opblock-summary-path").all_inner_texts()
        assert {"/recommend", "/explain", "/similar", "/items", "/health"} <= {
            one.replace("\u200b", "") for one in shown
        }
