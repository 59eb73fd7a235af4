"""The first-time path: sign in, see the device, start a campaign, watch it finish, look around."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from latency_service.agent.testing import FakeAgent
from tests.support.pictures import wait_for_figures
from tests.support.settings import API_TOKEN
from tests.support.sites import Site
from tests.support.tiny import tiny_space
from tests.support.visitors import DESK, PHONE, Visitor, visitor

#: Each size and each scheme is walked in `make test`; the other two pairs are long.
FORMS = [
    pytest.param(DESK, "light", id="desk-light"),
    pytest.param(PHONE, "dark", id="phone-dark"),
    pytest.param(DESK, "dark", id="desk-dark", marks=pytest.mark.long),
    pytest.param(PHONE, "light", id="phone-light", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("size", "scheme"), FORMS)
def test_the_first_time_path(
    chromium: Browser, site: Site, size: dict[str, int], scheme: str
) -> None:
    agent = site.agent("local")
    site.upload(tiny_space())
    with visitor(chromium, site, size, scheme) as one:
        sign_in_by_link(one)
        see_the_device(one)
        start_a_campaign(one)
        watch_it_finish(one, agent)
        look_around(one)


def sign_in_by_link(one: Visitor) -> None:
    one.page.goto(one.site.sign_in_link())
    one.page.wait_for_url(f"{one.site.url}/")
    expect(one.page.get_by_role("heading", name="Now")).to_be_visible()
    one.check()


def see_the_device(one: Visitor) -> None:
    one.page.get_by_role("link", name="Fleet").click()
    expect(one.page.get_by_role("link", name="local").first).to_be_visible()
    one.check()


def start_a_campaign(one: Visitor) -> None:
    one.page.get_by_role("navigation").get_by_role("link", name="Campaigns").click()
    one.page.get_by_role("link", name="Start a campaign").click()
    one.check()
    one.page.get_by_label("Architectures").fill("20")
    one.page.get_by_role("button", name="Start").click()
    expect(one.page.locator("#state")).to_contain_text("running")
    one.check()


def watch_it_finish(one: Visitor, agent: FakeAgent) -> None:
    """By server-sent events: the page is never loaded again."""
    one.page.evaluate("window.sameDocument = true")
    agent.work()
    expect(one.page.locator("#progress")).to_contain_text("1 jobs", timeout=60_000)
    one.site.train()
    expect(one.page.locator("#state")).to_contain_text("done", timeout=60_000)
    assert one.page.evaluate("window.sameDocument") is True
    one.check()


def look_around(one: Visitor) -> None:
    one.page.get_by_role("link", name=re.compile("^[0-9]+ of [0-9]+$")).click()
    one.page.get_by_role("row").nth(1).get_by_role("link").first.click()
    wait_for_figures(one.page)
    expect(one.page.get_by_text("95 % interval, n =")).to_be_visible()
    one.check()
    for path in ("/devices/local", "/queue?state=done", "/measurements", "/"):
        one.open(path)
        wait_for_figures(one.page)
        one.check()


def test_the_keyboard_alone_suffices(chromium: Browser, site: Site) -> None:
    site.agent("local")
    site.upload(tiny_space())
    with visitor(chromium, site, DESK, "light") as one:
        one.open("/signin")
        one.page.keyboard.type(API_TOKEN)
        one.page.keyboard.press("Enter")
        one.page.wait_for_url(f"{one.site.url}/")
        press_tab_to(one.page, "Skip to content")
        press_tab_to(one.page, "Campaigns")
        one.page.keyboard.press("Enter")
        one.page.wait_for_url("**/campaigns")
        press_tab_to(one.page, "Start a campaign")
        one.page.keyboard.press("Enter")
        one.page.wait_for_url("**/campaigns/new")
        press_tab_to(one.page, "Start")
        one.page.keyboard.press("Enter")
        one.page.wait_for_url(re.compile("/campaigns/[0-9a-f]{32}$"))
        expect(one.page.locator("#state")).to_contain_text("running")
        press_tab_to(one.page, "Cancel this campaign…")
        one.page.keyboard.press("Enter")
        press_tab_to(one.page, "Cancel the campaign")
        one.page.keyboard.press("Enter")
        expect(one.page.locator("#state")).to_contain_text("cancelled")
        assert one.faults == []


def test_the_theme_that_was_chosen_stays(chromium: Browser, site: Site) -> None:
    with visitor(chromium, site, DESK, "light") as one:
        sign_in_by_link(one)
        one.page.get_by_label("Theme").select_option("dark")
        one.open("/queue")
        assert one.page.locator("html").get_attribute("data-theme") == "dark"
        ground = "getComputedStyle(document.body).backgroundColor"
        assert one.page.evaluate(ground) == "rgb(22, 22, 22)"
        one.check()


def test_a_page_without_script_shows_everything_but_figures(chromium: Browser, site: Site) -> None:
    agent = site.agent("local")
    space_id = site.upload(tiny_space())
    site.post("/v1/campaigns", {"space_id": space_id, "device": "local", "count": 20})
    agent.work()
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.sign_in_link())
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{site.url}/devices/local")
    page.get_by_text("Show as table").first.click()
    expect(page.get_by_role("table").first).to_be_visible()
    context.close()


def press_tab_to(page: Page, name: str) -> None:
    """Press the tabulator key until the element of that name has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        focused = "document.activeElement.textContent.trim()"
        if page.evaluate(focused) == name:
            return
    raise AssertionError(f"{name!r} was not reached by the keyboard")
