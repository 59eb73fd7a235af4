"""Pages of spaces, targets, predictors, what-if, runs and comparisons, on both databases."""

from __future__ import annotations

import csv
import html
import io
import re
import threading
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.dashboard.whatif import pages as whatif_pages
from latency_service.dashboard.whatif import views
from latency_service.db.engine import Database
from latency_service.devices.models import Target
from latency_service.jobs.models import Job
from latency_service.lattices import service as lattices_service
from latency_service.lattices.schemas import LatticePoint
from latency_service.predictors import service
from latency_service.predictors.serving import ServedPredictor
from tests.support import fake_predictor
from tests.support.databases import statements
from tests.support.plain_browser import Browser
from tests.support.predictions import publish

HTML = {"accept": "text/html"}


@pytest.fixture
def predictor_id(api: TestClient, database: Database, agent: FakeAgent, space_id: str) -> str:
    first = publish(api, database, agent, space_id)
    with database.write() as session:
        row = service.get(session, first)
        job = Job(kind="train", state="done", space_id=space_id, target_id=row.target_id)
        session.add(job)
        session.flush()
        sidecar = service.show(row).sidecar
        found = service.publish(
            session, job, fake_predictor.artifact(), sidecar, [], fake_predictor.held_out()
        )
        points = [LatticePoint(width=w, latency_ms=w, lower_ms=w, upper_ms=w) for w in (4, 8)]
        lattices_service.store(session, row.target_id, {"conv3x3": points})
        return found.id


@pytest.fixture
def target_id(predictor_id: str, database: Database) -> str:
    with database.read() as session:
        return str(session.query(Target.id).scalar())


def page(api: TestClient, path: str) -> str:
    answer = api.get(path, headers=HTML)
    assert answer.status_code == 200, answer.text
    return answer.text


def rows(api: TestClient, path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(api.get(path).text)))


def test_lists_name_the_next_command_when_they_are_empty(api: TestClient) -> None:
    assert "latency-service campaigns create" in page(api, "/predictors")
    assert "latency-service spaces create" in page(api, "/spaces")
    assert "pruning-client prune" in page(api, "/runs")
    assert "latency-service campaigns create" in page(api, "/targets")


@pytest.mark.parametrize("path", ["/predictors/x", "/spaces/ff", "/targets/x", "/runs/x"])
def test_what_is_not_there(api: TestClient, path: str) -> None:
    assert api.get(path, headers=HTML).status_code == 404
    assert api.get(f"{path}.json").json()["error"]["cure"]


def test_a_predictor_as_page_json_and_csv(api: TestClient, predictor_id: str) -> None:
    text = page(api, f"/predictors/{predictor_id}")
    assert "Held-out predictions are off by" in text
    view = api.get(f"/predictors/{predictor_id}.json").json()
    assert view["summary"]["version"] == 2
    assert len(view["pairs"]) == 8
    table = rows(api, f"/predictors/{predictor_id}.csv")
    assert len(table) == 8
    assert {"measured (ms)", "predicted (ms)", "error (%)"} <= set(table[0])


def test_a_predictor_without_held_out_predictions_says_what_to_do(
    api: TestClient, database: Database, agent: FakeAgent, space_id: str
) -> None:
    text = page(api, f"/predictors/{publish(api, database, agent, space_id)}")
    assert "The held-out predictions of this version were not kept" in text


def test_a_stale_predictor_names_its_repair(
    api: TestClient, predictor_id: str, database: Database
) -> None:
    with database.write() as session:
        session.query(Target).update({"is_current": False})
    assert "--repair" in page(api, f"/predictors/{predictor_id}")
    assert api.get("/predictors.json").json()["predictors"][0]["state"] == "stale"


def test_lists_of_predictors_go_on(
    api: TestClient, predictor_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_service.dashboard.predictors.pages.PAGE_ROWS", 1)
    view = api.get("/predictors.json").json()
    assert (len(view["predictors"]), view["total"]) == (1, 2)
    newest = view["predictors"][0]["id"]
    older = api.get("/predictors.json", params={"before": newest}).json()["predictors"]
    assert [row["version"] for row in older] == [1]
    assert len(rows(api, "/predictors.csv")) == 2, "the CSV holds the whole list"


def test_lists_of_exactly_one_page_have_no_next(
    api: TestClient, predictor_id: str, space_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(api, space_id, "gdp", 0.8)
    record(api, space_id, "gdp", 0.9)
    for room in ("predictors", "runs"):
        monkeypatch.setattr(f"latency_service.dashboard.{room}.pages.PAGE_ROWS", 2)
        assert api.get(f"/{room}.json").json()["total"] == 2
        assert "Older" not in page(api, f"/{room}")
        monkeypatch.setattr(f"latency_service.dashboard.{room}.pages.PAGE_ROWS", 1)
        assert "Older" in page(api, f"/{room}")


def test_lists_are_of_the_device_asked_for(
    api: TestClient, predictor_id: str, space_id: str, target_id: str
) -> None:
    record(api, space_id, "gdp", 0.8)
    for room in ("predictors", "runs", "targets", "measurements", "campaigns"):
        for device, is_there in (("board", True), ("laptop", False)):
            view = api.get(f"/{room}.json?device={device}").json()
            assert bool(view["total"]) == bool(view[room]) == is_there, room
            assert len(rows(api, f"/{room}.csv?device={device}")) == view["total"], room
    assert api.get("/queue.json?state=done&device=board").json()["counts"] == {"done": 1}
    assert api.get("/queue.json?device=laptop").status_code == 404


def test_a_space_with_its_groups_and_graph(
    api: TestClient, predictor_id: str, space_id: str
) -> None:
    text = page(api, f"/spaces/{space_id}")
    assert 'id="group-1"' in text
    assert 'href="#group-2"' in text
    assert text.count("<svg") > 1
    view = api.get(f"/spaces/{space_id}.json").json()
    assert [group["lattice_text"] for group in view["groups"]] == ["4–16 by 4", "4–16 by 4"]
    assert len(rows(api, f"/spaces/{space_id}.csv")) == 2


def test_a_space_is_parsed_once(api: TestClient, space_id: str, database: Database) -> None:
    page(api, f"/spaces/{space_id}")
    with statements(database) as sent:
        page(api, f"/spaces/{space_id}")
    assert not [text for text in sent if "SELECT spaces.blob" in text]


def test_a_space_too_large_to_draw(
    api: TestClient, space_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_service.dashboard.spaces.views.MOST_BOXES", 3)
    text = page(api, f"/spaces/{space_id}")
    assert "too many to draw" in text
    assert api.get(f"/spaces/{space_id}.json").json()["graph"] is None


def test_a_target_with_its_sawtooth(api: TestClient, target_id: str) -> None:
    text = page(api, f"/targets/{target_id}")
    assert 'id="sawtooth-conv3x3"' in text
    view = api.get(f"/targets/{target_id}.json").json()
    assert view["lattice_version"] == 1
    assert view["measured"][0]["measurements"] == 1
    assert view["predictor_count"] == 2
    assert [row["width (channels)"] for row in rows(api, f"/targets/{target_id}.csv")] == ["4", "8"]
    assert api.get(f"/targets/{target_id}?version=9").status_code == 404


def test_every_link_of_a_page_opens_for_who_has_signed_in(
    api: TestClient, app: FastAPI, predictor_id: str, target_id: str, space_id: str
) -> None:
    run = record(api, space_id, "gdp", 0.8)
    paths = ("/", f"/predictors/{predictor_id}", f"/spaces/{space_id}", f"/targets/{target_id}")
    with TestClient(app) as client:
        browser = Browser(client)
        browser.sign_in()
        found = set[str]()
        for path in (*paths, f"/runs/{run}", "/runs", "/predictors"):
            found |= set(re.findall(r'<a [^>]*href="([^"#]+)', browser.open(path).text))
        for link in found:
            assert browser.open(html.unescape(link)).status_code == 200, link
        report = client.get(f"/runs/{run}/report.json")
        file = client.get(f"/predictors/{predictor_id}/predictor.onnx")
        assert client.get(f"/spaces/{space_id}/graph.onnx").status_code == 200
    assert report.json()["outcome"] == "met"
    assert file.content == fake_predictor.artifact()
    assert "attachment" in file.headers["content-disposition"]


def test_files_are_for_who_has_signed_in(app: FastAPI, predictor_id: str) -> None:
    with TestClient(app) as anybody:
        assert anybody.get(f"/predictors/{predictor_id}/predictor.onnx").status_code == 401


def test_targets_are_listed_by_the_page_and_by_device(
    api: TestClient, target_id: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as session:
        known = session.query(Target).one()
        columns = {one.name: getattr(known, one.name) for one in Target.__table__.columns}
        older = {**columns, "id": "0" * 32, "generation": 0, "is_current": False}
        session.add(Target(**older))
    monkeypatch.setattr("latency_service.dashboard.paging.newest_page.__kwdefaults__", {"limit": 1})
    view = api.get("/targets.json").json()
    assert ([row["id"] for row in view["targets"]], view["total"]) == ([target_id], 2)
    assert (view["targets"][0]["measurements"], view["targets"][0]["predictors"]) == (1, 2)
    last = api.get(f"/targets.json?before={view['older']}").json()
    assert ([row["id"] for row in last["targets"]], last["older"]) == (["0" * 32], None)
    assert len(rows(api, "/targets.csv")) == 2
    assert api.get("/targets.json?device=nobody").json()["total"] == 0


def test_pages_of_targets_count_only_what_they_show(
    api: TestClient, target_id: str, database: Database
) -> None:
    for path in ("/targets", f"/targets/{target_id}", "/compare-targets", "/devices"):
        with statements(database) as sent:
            page(api, path)
        for text in sent:
            if "count(" in text and "FROM measurements" in text:
                assert "measurements.target_id" in text.partition("WHERE")[2], path


def answer(api: TestClient, predictor_id: str, query: str) -> Any:
    return api.get(f"/predictors/{predictor_id}/what-if{query}")


def test_what_if_as_page_and_as_answer(api: TestClient, predictor_id: str) -> None:
    page(api, f"/predictors/{predictor_id}/what-if")
    view = answer(api, predictor_id, ".json?w=12.10").json()
    assert view["state"] == "12.10"
    assert view["answer"]["latency_ms"] == pytest.approx(0.92, rel=1e-5)
    light = answer(api, predictor_id, "/answer?w=12.10").json()
    assert light == view["answer"]


def test_what_if_is_computed_beside_the_event_loop_by_few_at_once(
    api: TestClient, app: FastAPI, predictor_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set[str]()
    borrowed = list[float]()
    real = views.answer_of

    def noted(served: ServedPredictor, widths: list[int]) -> views.Answer:
        threads.add(threading.current_thread().name)
        borrowed.append(app.state.what_if_limiter.borrowed_tokens)
        return real(served, widths)

    monkeypatch.setattr("latency_service.dashboard.whatif.pages.answer_of", noted)
    assert answer(api, predictor_id, "/answer?w=12.10").status_code == 200
    (thread,) = threads
    assert "worker" in thread.lower()
    assert borrowed == [1]


def test_searches_for_the_nearest_wait_for_each_other(
    api: TestClient, predictor_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_service.dashboard.whatif.pages.SEARCH_SECONDS", 0.01)
    monkeypatch.setattr(
        "latency_service.dashboard.whatif.pages._SEARCHES", threading.BoundedSemaphore(1)
    )
    assert answer(api, predictor_id, ".json?near=0.8").status_code == 200
    whatif_pages._SEARCHES.acquire()
    assert answer(api, predictor_id, ".json?near=0.8").status_code == 503
    assert answer(api, predictor_id, ".json").status_code == 200


def test_what_if_works_as_a_form(api: TestClient, predictor_id: str) -> None:
    view = answer(api, predictor_id, ".json?g0=5&g1=6&snap=true").json()
    assert view["answer"]["widths"] == [8, 8]


def test_what_if_refuses_other_widths(api: TestClient, predictor_id: str) -> None:
    for query in (".json?w=1.2.3", ".json?w=99.8", "/answer?w=x", ".json?near=soon"):
        refused = answer(api, predictor_id, query)
        assert refused.status_code == 422
        assert refused.json()["error"]["cure"]


def test_what_if_finds_the_nearest(api: TestClient, predictor_id: str) -> None:
    view = answer(api, predictor_id, ".json?near=800us").json()
    assert view["near_ms"] == pytest.approx(0.8)
    assert abs(view["nearest"][0]["off_percent"]) < 5
    assert "nearest to 0.8" in page(api, f"/predictors/{predictor_id}/what-if?near=0.8")


def test_two_targets_by_shared_measurements_or_predictions(
    api: TestClient, target_id: str, space_id: str
) -> None:
    query = f"first={target_id}&second={target_id}&space={space_id}"
    found = api.get(f"/compare-targets.json?{query}").json()["agreement"]
    assert found["kind"] == "predicted", "one architecture was measured: too few"
    page(api, f"/compare-targets?{query}")


def record(api: TestClient, space_id: str, method: str, latency_ms: float) -> str:
    pruned = {"latency_ms": latency_ms, "lower_ms": latency_ms, "upper_ms": latency_ms}
    body = {
        "name": "net",
        "method": method,
        "space_id": space_id,
        "predictor_id": None,
        "budget_ms": 1.0,
        "report": {
            "outcome": "met",
            "device": "board",
            "fingerprint": "f" * 64,
            "pruned": {**pruned, "accuracy": 90.0},
            "history": [],
        },
    }
    return str(api.post("/v1/runs", json=body).json()["id"])


def test_runs_and_their_comparison(api: TestClient, space_id: str) -> None:
    ids = [record(api, space_id, "w-gates", 0.8), record(api, space_id, "gdp", 0.9)]
    assert page(api, "/runs").count('name="run"') == 2
    assert len(rows(api, "/runs.csv?method=gdp")) == 1
    query = "&".join(f"run={one}" for one in (*ids, "gone"))
    view = api.get(f"/compare.json?{query}").json()
    assert [one["on_front"] for one in view["runs"]] == [True, False]
    assert view["missing"] == ["gone"]
    assert view["runs"][1]["verdict"]["word"] == "slower"
    assert "Only what differs" in page(api, f"/compare?{query}")
    assert api.get("/compare?" + "&".join(f"run={n}" for n in range(9))).status_code == 422


def test_names_with_markup_are_text(api: TestClient, space_id: str) -> None:
    run = record(api, space_id, "</script><script>alert(1)</script>", 0.8)
    for path in ("/runs", f"/runs/{run}", f"/compare?run={run}"):
        assert "<script>alert(1)" not in page(api, path)


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"pruned": {"latency_ms": 0.8, "accuracy": 90.0}},
        {"pruned": {"latency_ms": 0.0, "lower_ms": -1.0, "upper_ms": 0.0, "accuracy": 90.0}},
        {"outcome": "<b>odd</b>", "device": "<b>odd</b>", "runtime": {"intra_threads": "many"}},
        {"widths": 5, "layers": {"a": 1}, "history": "none", "verifications": 1, "config": [1]},
        {"widths": [{"name": "stem", "before": 0, "after": 0}], "verification": {"readings": {}}},
        {"warnings": {"a": 1}, "versions": 3, "timings_seconds": {"prune": "long"}},
    ],
)
def test_a_report_of_any_form_has_its_pages(
    api: TestClient, space_id: str, report: dict[str, Any]
) -> None:
    whole = record(api, space_id, "gdp", 0.9)
    body = {
        "name": "odd",
        "method": "own",
        "space_id": space_id,
        "predictor_id": None,
        "budget_ms": 1.0,
        "report": report,
    }
    odd = api.post("/v1/runs", json=body).json()["id"]
    compared = f"/compare{{}}?run={odd}&run={whole}&every=true"
    for address in ("/runs{}", f"/runs/{odd}{{}}", compared, "/home{}"):
        text = page(api, "/" if address == "/home{}" else address.format(""))
        assert "<b>odd" not in text
        for suffix in (".json", ".csv"):
            assert api.get(address.format(suffix)).status_code == 200
