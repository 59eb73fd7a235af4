"""In a browser: widths tried out, a space's groups, a run watched, runs compared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support import pruned
from tests.support.pictures import sign_in, wait_for_figures
from tests.support.shown_site import Shown
from tests.support.visitors import DESK, PHONE, Visitor, visitor

#: A loaded machine must not fail a test that waits for something to appear.
WAIT_MS = 60_000


@pytest.fixture
def plain(chromium: Browser, shown: Shown) -> Iterator[Page]:
    """A signed-in page whose scripts do not run."""
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(shown.site.sign_in_link())
    page.get_by_role("button").first.click()
    page.wait_for_url(f"{shown.site.url}/")
    yield page
    context.close()


def test_a_link_shares_the_widths(desk: Visitor, shown: Shown) -> None:
    page = desk.page
    desk.open(f"{shown.predictor}/what-if")
    field_of_group = page.locator("#g0")
    field_of_group.fill("6")
    field_of_group.press("Tab")
    expect(page).to_have_url(f"{shown.site.url}{shown.predictor}/what-if?w=6.16")
    page.goto(page.get_by_role("link", name="link to these widths").get_attribute("href") or "")
    expect(page.locator("#g0")).to_have_value("6")
    expect(page.get_by_text("off the lattice: 8 is at least as fast")).to_be_visible()
    page.get_by_label("Snap to the lattice").check()
    expect(page.locator("#g0")).to_have_value("8")


def test_what_if_works_without_a_script(plain: Page, shown: Shown) -> None:
    page = plain
    page.goto(f"{shown.site.url}{shown.predictor}/what-if")
    page.locator("#g1").fill("8")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("[data-field=latency]")).to_have_text("0.9000")
    page.get_by_label("Latency, ms").fill("0.8")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("table").first).to_contain_text("all groups alike")


def test_enter_on_a_layer_shows_its_group_without_a_script(plain: Page, shown: Shown) -> None:
    page = plain
    page.goto(f"{shown.site.url}/spaces/{shown.space_id}")
    expect(page.locator("#group-2")).to_be_hidden()
    page.get_by_role("link", name="w1, group 2").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#group-2")).to_be_visible()
    expect(page.locator("#group-2")).to_contain_text("conv1")


def test_two_runs_are_chosen_and_compared(desk: Visitor, shown: Shown) -> None:
    page = desk.page
    desk.open("/runs")
    for box in page.get_by_role("checkbox").all()[:2]:
        box.check()
    page.get_by_role("button", name="Compare the chosen runs").click()
    expect(page.get_by_role("heading", name="1 of 2 runs is not beaten in both")).to_be_visible()
    wait_for_figures(page)
    page.get_by_label("Baseline").select_option(label="SmallNet · gdp")
    expect(page.get_by_text("↓ faster")).to_be_visible()


def test_a_run_is_watched_until_it_has_ended(desk: Visitor, shown: Shown) -> None:
    run = pruned.begin_run(shown.site, shown.space_id, shown.predictor_id)
    page = desk.page
    desk.open(f"/runs/{run}")
    expect(page.locator("#run-head")).to_contain_text("running")
    full = pruned.full_widths(shown.site, shown.space_id)
    pruned.tell_progress(shown.site, run, full, done=7, total=60)
    expect(page.locator("#run-head")).to_contain_text("prune, 7 of 60")
    expect(page.locator("#run-verified")).to_contain_text("structure")
    pruned.end_run(shown.site, run, shown.space_id, 0.7, 90.0)
    expect(page.locator("#run-head")).to_contain_text("measured latency")
    expect(page.get_by_role("heading", name="Widths before and after")).to_be_visible()
    wait_for_figures(page)


def test_a_run_that_fails_says_why(desk: Visitor, shown: Shown) -> None:
    run = pruned.begin_run(shown.site, shown.space_id, shown.predictor_id)
    page = desk.page
    desk.open(f"/runs/{run}")
    failed = shown.site.http.put(f"/v1/runs/{run}/failure", json={"message": "Stopped: enough"})
    assert failed.is_success
    expect(page.locator("#run-head")).to_contain_text("Stopped: enough")


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")])
def test_pages_have_no_fault(
    chromium: Browser, shown: Shown, size: dict[str, int], scheme: str
) -> None:
    compare = "/compare?" + "&".join(f"run={run}" for run in shown.runs)
    target = shown.site.get(f"/v1{shown.predictor}")["target_id"]
    with visitor(chromium, shown.site, size, scheme) as found:
        sign_in(found.page, shown.site)
        for path in (
            "/predictors",
            shown.predictor,
            f"{shown.predictor}/what-if?near=0.8",
            f"/spaces/{shown.space_id}",
            "/targets",
            f"/targets/{target}",
            f"/compare-targets?first={target}&second={target}&space={shown.space_id}",
            "/runs",
            f"/runs/{shown.runs[0]}",
            compare,
        ):
            found.open(path)
            wait_for_figures(found.page)
            found.check()
