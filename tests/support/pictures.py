"""Pictures of every page: ``python -m tests.support.pictures FOLDER``.

Each page at 1280 and 390 pixels, light and dark, as ``NAME-WIDTH-THEME.png``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support import pruned
from tests.support.showcase import Showcase, fill
from tests.support.sites import Site, running

CHROMIUM = "/usr/bin/chromium"
WIDTHS = (1280, 390)
THEMES = ("light", "dark")


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.pictures", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="part of the name of the pages to take")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as site:
        shown = fill(site)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for width in WIDTHS:
                for theme in THEMES:
                    _take_all(browser, site, shown, options, width, theme)


def pages_of(site: Site, shown: Showcase) -> dict[str, str]:
    """Path of each page by its name."""
    predictor = site.get(f"/v1/campaigns/{shown.done_campaign}")["predictor_id"]
    view = site.get(f"/v1/predictors/{predictor}")
    target, dense_ms = view["target_id"], view["sidecar"]["dense_ms"]
    targets = [row["id"] for row in site.get("/targets.json")["targets"]]
    other = next(one for one in targets if one != target)
    runs = [
        pruned.add_run(site, shown.space_id, predictor, method=name, latency_ms=ms, accuracy=acc)
        for name, ms, acc in (("w-gates", 0.68, 91.2), ("gdp", 0.72, 91.5), ("scop", 0.75, 90.0))
    ]
    live = pruned.begin_run(site, shown.space_id, predictor)
    full = pruned.full_widths(site, shown.space_id)
    pruned.tell_progress(site, live, full, done=40, total=60)
    return {
        "signin": "/signin",
        "home": "/",
        "fleet": "/devices",
        "device": "/devices/board",
        "campaigns": "/campaigns",
        "new-campaign": "/campaigns/new",
        "campaign-running": f"/campaigns/{shown.running_campaign}",
        "campaign-done": f"/campaigns/{shown.done_campaign}",
        "measurements": "/measurements",
        "measurement": f"/measurements/{shown.measurement}",
        "queue": "/queue",
        "queue-failed": "/queue?state=failed",
        "job": f"/jobs/{shown.failed_job}",
        "error": "/devices/nothing",
        "spaces": "/spaces",
        "space": f"/spaces/{shown.space_id}",
        "predictors": "/predictors",
        "predictor": f"/predictors/{predictor}",
        "whatif": f"/predictors/{predictor}/what-if?near={dense_ms / 2:.3f}",
        "target": f"/targets/{target}",
        "targets": "/targets",
        "compare-targets": f"/compare-targets?first={target}&second={other}&space={shown.space_id}",
        "runs": "/runs",
        "run": f"/runs/{runs[0]}",
        "run-live": f"/runs/{live}",
        "compare": "/compare?" + "&".join(f"run={run}" for run in runs),
    }


def sign_in(page: Page, site: Site) -> None:
    """Sign a browser in by a link."""
    page.goto(site.sign_in_link())
    page.wait_for_url(f"{site.url}/")


def _take_all(
    browser: Browser,
    site: Site,
    shown: Showcase,
    options: argparse.Namespace,
    width: int,
    theme: str,
) -> None:
    scheme = "dark" if theme == "dark" else "light"
    page = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme=scheme, device_scale_factor=1
    )
    sign_in(page, site)
    for name, path in pages_of(site, shown).items():
        if options.only in name:
            page.goto(site.url + path)
            wait_for_figures(page)
            page.screenshot(path=options.folder / f"{name}-{width}-{theme}.png", full_page=True)
    page.close()


def wait_for_figures(page: Page) -> None:
    """Until every figure of the page is drawn."""
    page.wait_for_function(
        "() => [...document.querySelectorAll('[data-figure]')]"
        ".every((one) => one.querySelector('.main-svg'))"
    )


if __name__ == "__main__":
    main()
