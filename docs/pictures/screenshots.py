"""Write screenshots of the page and of a report: light, dark and on a phone.

They are PNG files beside this script, which are not kept in the repository. Needs Chromium on the
PATH, and the extra ``test`` for playwright.
"""

import argparse
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from playwright.sync_api import Page, sync_playwright

from graphdiff import LD4MRec, Recommender, fit
from graphdiff.datasets import SyntheticMultimedia
from graphdiff.experiments.result import ComparisonResult
from graphdiff.serving.service import create_app

HERE = Path(__file__).parent
RESULT = HERE.parents[1] / "benchmarks" / "results" / "tiktok.json"
USER = 8
VIEWS = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="RUN folder (default: trains on the synthetic dataset)")
    parser.add_argument("--result", default=RESULT, help="JSON of a comparison")
    parser.add_argument("--out", default=HERE, type=Path, help="folder of the pictures")
    given = parser.parse_args()
    browsers = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    browser = next(filter(None, browsers), None)
    if browser is None:
        parser.error("no chromium, chromium-browser or google-chrome on PATH; install one")
    model = LD4MRec.from_pretrained(given.run) if given.run else trained()
    with TemporaryDirectory() as folder, serving(model) as address, sync_playwright() as engine:
        report = Path(folder) / "report.html"
        ComparisonResult.read(given.result).write(report)
        chromium = engine.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, view in VIEWS.items():
            page = chromium.new_page(**view)
            open_page(page, address, model)
            if name == "dark":
                page.locator("#best li").first.get_by_text("Why?").click()
            page.screenshot(path=given.out / f"page-{name}.png")
            page.goto(report.as_uri())
            page.screenshot(path=given.out / f"report-{name}.png", full_page=name != "phone")
            page.close()


def trained() -> LD4MRec:
    """Return a model of the synthetic dataset, after a minute of training."""
    data = SyntheticMultimedia(seed=0)[0]
    model = LD4MRec.from_data(data, gated=True)
    fit(model, data, epochs=25, progress=False, accelerator="cpu")
    return model


@contextmanager
def serving(model: Recommender) -> Iterator[str]:
    """Serve a model, and yield the address."""
    config = uvicorn.Config(create_app(model), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.05)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


def open_page(page: Page, address: str, model: Recommender) -> None:
    """Open the page with the history of a user."""
    rows = model.query(USER).rows
    ids = [model.catalogue.item_id(index) for index in rows.item.tolist()[:5]]
    page.goto(address + "?" + "&".join(f"history={one}" for one in ids))
    page.wait_for_selector("#best .because q")


if __name__ == "__main__":
    main()
