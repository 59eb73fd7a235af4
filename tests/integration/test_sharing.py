"""Measurements go from one database to another as Parquet, and say where they are from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Update, delete, select, update

from latency_service.agent.testing import FakeAgent
from latency_service.cli.main import main
from latency_service.core.errors import Conflict, NotFound
from latency_service.dashboard.campaigns import queries as campaign_queries
from latency_service.dashboard.fleet.health import Condition, findings
from latency_service.dashboard.home import queries as home_queries
from latency_service.db.engine import Database
from latency_service.devices.schemas import DeviceView
from latency_service.jobs.models import Attempt, Job
from latency_service.measurements.models import Measurement
from latency_service.predictors.models import StoredPredictor
from latency_service.retention.rounds import drop_rounds
from latency_service.settings import Settings
from latency_service.sharing.exporting import export_to
from latency_service.sharing.importing import import_from
from latency_service.sharing.parquet import SUMS_FILE, BadExport, write_sums
from tests.support.settings import SQLITE_ONLY
from tests.support.trainings import train, trainings

Measure = Callable[..., dict[str, Any]]
WIDTHS = [[a, b] for a in (2, 4, 8) for b in (2, 4, 8, 12)]
ROUNDS = "rounds"


@pytest.fixture
def folder(agent: FakeAgent, measure: Measure, database: Database, tmp_path: Path) -> Path:
    """An export of twelve measurements."""
    measure(WIDTHS)
    agent.work()
    export_to(database, tmp_path / "export")
    return tmp_path / "export"


@pytest.fixture
def other(clone_sqlite: Callable[[bool], str]) -> Iterator[Database]:
    """Another team's database, always SQLite: exports cross from one kind to the other."""
    opened = Database(clone_sqlite(True))
    yield opened
    opened.dispose()


def stored(database: Database) -> dict[str, dict[str, Any]]:
    """Measurements by id, with their rounds and without what belongs to this database only."""
    names = {column.key for column in Measurement.__table__.columns} - {"campaign_id"}
    with database.read() as session:
        rows = session.scalars(select(Measurement)).all()
        return {row.id: {name: getattr(row, name) for name in names} for row in rows}


def test_measurements_arrive_as_they_were(
    folder: Path, database: Database, other: Database
) -> None:
    told: list[tuple[int, int]] = []
    done = import_from(other, folder, tell=lambda *counts: told.append(counts))
    assert (done.added.spaces, done.added.targets, done.added.measurements) == (1, 1, 12)
    assert told[-1] == (12, 12)
    before, after = stored(database), stored(other)
    assert after == before
    assert all(row[ROUNDS] for row in after.values())


def test_importing_twice_adds_nothing(folder: Path, other: Database) -> None:
    import_from(other, folder)
    before = stored(other)
    again = import_from(other, folder)
    assert (again.added.spaces, again.added.targets, again.added.measurements) == (0, 0, 0)
    assert stored(other) == before


def test_a_database_knows_its_own_measurements(
    folder: Path, api: TestClient, database: Database
) -> None:
    done = import_from(database, folder)
    assert (done.added.measurements, done.devices) == (0, ["board"])
    assert [device["name"] for device in api.get("/v1/devices").json()] == ["board"]


def test_what_was_forgotten_comes_back(folder: Path, api: TestClient, database: Database) -> None:
    before = stored(database)
    api.delete("/v1/devices/board/measurements", params={"confirm": "board"})
    assert stored(database) == {}
    assert import_from(database, folder).added.measurements == 12
    assert stored(database) == before


class TestInTheOther:
    """The service of the other team, with a device of the same name and fingerprint."""

    @pytest.fixture
    def theirs(self, folder: Path, other: Database, settings: Settings) -> Iterator[TestClient]:
        from latency_service.agent.testing import bearer
        from latency_service.app import create_app
        from tests.support.settings import API_TOKEN

        url = str(other.engine.url)
        app = create_app(settings.model_copy(update={"database_url": url}))
        with TestClient(app, headers=bearer(API_TOKEN)) as client:
            import_from(other, folder)
            yield client

    @pytest.fixture
    def own(self, theirs: TestClient) -> FakeAgent:
        """Their agent, of a device with the name and the fingerprint of the imported one."""
        return FakeAgent(theirs, theirs.post("/v1/enrolments").json()["token"])

    @pytest.fixture
    def imported(self, theirs: TestClient) -> dict[str, Any]:
        [found] = [row for row in theirs.get("/v1/devices").json() if row["imported_from"]]
        return dict(found)

    def test_no_target_is_mixed(
        self, theirs: TestClient, own: FakeAgent, imported: dict[str, Any], space_id: str
    ) -> None:
        assert imported["name"].startswith("board.")
        assert imported["name"].endswith(imported["imported_from"][-8:])
        assert imported["online"] is False
        body = {"space_id": space_id, "device": "board", "purpose": "measure", "widths": [[8, 8]]}
        assert theirs.post("/v1/campaigns", json=body).status_code == 201
        own.work()
        of_target = [row["target_id"] for row in theirs.get("/v1/measurements").json()]
        assert sorted(of_target.count(each) for each in set(of_target)) == [1, 12]

    def test_it_is_not_shown_as_a_device_that_is_offline(
        self, other: Database, own: FakeAgent, imported: dict[str, Any]
    ) -> None:
        with other.read() as session:
            assert [name for name, _ in home_queries.last_contacts(session)] == ["board"]
            assert list(campaign_queries.choices(session, 10)[1]) == ["board"]
        view = DeviceView.model_validate(imported)
        assert "offline" not in {one.check for one in findings(view, None, Condition())}
        mine = view.model_copy(update={"imported_from": None})
        assert "offline" in {one.check for one in findings(mine, None, Condition())}

    def test_it_cannot_be_measured_on_or_joined(
        self, theirs: TestClient, imported: dict[str, Any], space_id: str
    ) -> None:
        body = {"space_id": space_id, "device": imported["name"], "count": 12}
        answer = theirs.post("/v1/campaigns", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "imported")
        name = imported["name"]
        for body, refusal in (({}, "device_exists"), ({"device": name}, "another_machine")):
            token = theirs.post("/v1/enrolments", json=body).json()["token"]
            with pytest.raises(AssertionError, match=refusal):
                FakeAgent(theirs, token, name)

    def test_it_is_a_repeat_of_their_own_device(
        self, theirs: TestClient, own: FakeAgent, imported: dict[str, Any], space_id: str
    ) -> None:
        body = {"space_id": space_id, "device": "board", "purpose": "measure", "widths": [[8, 8]]}
        theirs.post("/v1/campaigns", json=body)
        own.work()
        [peer] = theirs.get("/v1/devices/board/peers").json()
        assert (peer["peer_device"], peer["architectures"]) == (imported["name"], 1)

    def test_it_is_trained_on_when_asked(self, other: Database, folder: Path, theirs: Any) -> None:
        assert trainings(other, "queued") == []
        assert import_from(other, folder, train=True).trainings == 1
        [job] = trainings(other, "queued")
        assert job.space_id is not None

    def test_it_is_trained_on_once(self, other: Database, folder: Path, theirs: Any) -> None:
        [first, again] = [import_from(other, folder, train=True).trainings for _ in range(2)]
        assert (first, again) == (1, 0)
        [job] = trainings(other, "queued")
        with other.write() as session:
            session.execute(update(Job).where(Job.id == job.id).values(state="leased"))
        assert import_from(other, folder, train=True).trainings == 0, "it is being trained"
        train(other, job.id)
        assert import_from(other, folder, train=True).trainings == 0, "it has learned all of them"
        with other.write() as session:
            session.execute(update(StoredPredictor).values(measurement_ids=[]))
        assert import_from(other, folder, train=True).trainings == 1

    def test_provenance_outlives_another_export(
        self, other: Database, database: Database, tmp_path: Path, imported: dict[str, Any]
    ) -> None:
        export_to(other, tmp_path / "onward", device=imported["name"])
        [row] = pq.read_table(tmp_path / "onward" / "targets.parquet").to_pylist()
        assert row["source"] == imported["imported_from"]
        assert import_from(database, tmp_path / "onward").added.measurements == 0


def test_an_export_is_what_was_chosen(
    api: TestClient, agent: FakeAgent, measure: Measure, database: Database, tmp_path: Path
) -> None:
    measure([[8, 8]])
    agent.work()
    second = FakeAgent(api, api.post("/v1/enrolments").json()["token"], "second")
    measure([[4, 4], [8, 8]], device="second")
    second.work()
    told: list[tuple[int, int]] = []
    counts = export_to(
        database,
        tmp_path / "second",
        device="second",
        tell=lambda *counted: told.append(counted),
    )
    assert told[-1] == (counts.measurements, counts.measurements)
    assert (counts.measurements, counts.targets) == (2, 1)
    with pytest.raises(NotFound):
        export_to(database, tmp_path / "none", device="none")
    assert not (tmp_path / "none").exists()


@SQLITE_ONLY
def test_others_read_it_without_this_program(folder: Path) -> None:
    table = pq.read_table(folder / "measurements.parquet", columns=["latency_ms", "rounds"])
    assert table.num_rows == 12
    rounds = table.column("rounds").combine_chunks().flatten()
    assert pa.compute.min(rounds.field("latency_ms")).as_py() > 0


@SQLITE_ONLY
def test_damaged_and_missing_files_are_refused(folder: Path, other: Database) -> None:
    for name in ("spaces.parquet", "targets.parquet", "measurements.parquet", SUMS_FILE):
        path = folder / name
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 5] ^= 1
        for data in (flipped, whole[:-2], b""):
            path.write_bytes(data)
            with pytest.raises(BadExport):
                import_from(other, folder)
        path.unlink()
        with pytest.raises(BadExport):
            import_from(other, folder)
        path.write_bytes(whole)
    assert stored(other) == {}
    assert import_from(other, folder).added.measurements == 12


def rewritten(path: Path, column: str, value: Any) -> None:
    """Change a column's values, as somebody would who knows the format."""
    table = pq.read_table(path)
    index = table.schema.get_field_index(column)
    changed = pa.array([value] * table.num_rows, table.schema.field(index).type)
    table = table.set_column(index, table.schema.field(index), changed)
    pq.write_table(table, path)
    write_sums(path.parent)


CHANGES: list[tuple[str, str, Any, str]] = [
    ("targets", "facts", json.dumps({"cpu": "another"}), "fingerprint"),
    ("targets", "device_name", "../up", "device_name"),
    ("spaces", "blob", b"no graph", "hash"),
    ("measurements", "latency_ms", -1.0, "latency_ms"),
    ("measurements", "latency_ms", float("nan"), "latency_ms"),
    ("measurements", "target_id", "elsewhere", "missing"),
    ("measurements", "widths", [8], "1 widths given"),
    ("measurements", "widths", [8, 4096], "out of range"),
    ("measurements", "widths", [0, 4], "out of range"),
    ("measurements", "position", 0, "twice"),
    ("measurements", "verdict", "splendid", "verdict"),
    ("measurements", "id", "all-the-same", "twice"),
]
#: Of rows that the database has.
KNOWN_CHANGES: list[tuple[str, str, Any, str]] = [
    ("targets", "generation", 2, "target .* differs in generation"),
    ("targets", "source", "somebody-else", "device .* differs in source"),
    ("measurements", "latency_ms", 0.5, "measurement .* differs in latency_ms"),
    ("measurements", "job_id", "another", "measurement .* differs in job_id"),
    ("measurements", ROUNDS, [], "measurement .* differs in rounds"),
]


@SQLITE_ONLY
def test_changed_values_are_refused(folder: Path, other: Database, tmp_path: Path) -> None:
    for number, (name, column, value, why) in enumerate(CHANGES):
        changed = tmp_path / str(number)
        shutil.copytree(folder, changed)
        rewritten(changed / f"{name}.parquet", column, value)
        with pytest.raises(BadExport, match=why):
            import_from(other, changed)
    assert stored(other) == {}


@SQLITE_ONLY
def test_other_content_under_a_known_id_is_refused(
    folder: Path, other: Database, tmp_path: Path
) -> None:
    import_from(other, folder)
    before = stored(other)
    for number, (name, column, value, why) in enumerate(KNOWN_CHANGES):
        changed = tmp_path / str(number)
        shutil.copytree(folder, changed)
        rewritten(changed / f"{name}.parquet", column, value)
        with pytest.raises(Conflict, match=why):
            import_from(other, changed)
    assert stored(other) == before
    drop_rounds(other, 0)
    import_from(other, folder)
    assert not any(row[ROUNDS] for row in stored(other).values()), "what was dropped is no change"


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (update(Job).values(state="queued"), "job .* differs in state"),
        (update(Job).values(kind="verify"), "job .* differs in kind"),
        (update(Attempt).values(state="open"), "attempt .* differs in is_open"),
    ],
    ids=["waiting", "of another kind", "under way"],
)
def test_nothing_is_imported_into_work_that_is_another(
    folder: Path, other: Database, change: Update, why: str
) -> None:
    import_from(other, folder)
    with other.write() as session:
        session.execute(delete(Measurement))
        session.execute(change)
    with pytest.raises(Conflict, match=why):
        import_from(other, folder)
    assert stored(other) == {}


@SQLITE_ONLY
def test_measurements_of_one_job_are_of_one_space(folder: Path, other: Database) -> None:
    path = folder / "measurements.parquet"
    table = pq.read_table(path)
    index = table.schema.get_field_index("job_kind")
    kinds = pa.array(["verify", *["measure"] * (table.num_rows - 1)])
    pq.write_table(table.set_column(index, table.schema.field(index), kinds), path)
    write_sums(folder)
    with pytest.raises(BadExport, match="does not fit the others of its job"):
        import_from(other, folder)


@SQLITE_ONLY
def test_the_commands(
    folder: Path,
    database: Database,
    other: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(url: str, *words: str) -> tuple[int, Any]:
        monkeypatch.setenv("LATENCY_SERVICE_DATABASE_URL", url)
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), json.loads(printed.out or printed.err)

    mine, theirs = str(database.engine.url), str(other.engine.url)
    target = str(tmp_path / "again")
    assert run(mine, "export", target)[1]["measurements"] == 12
    assert run(mine, "export", target)[0] == 6, "what is there is never overwritten"
    code, printed = run(theirs, "import", target)
    assert (code, printed["new measurements"]) == (0, 12)
    assert run(theirs, "import", str(tmp_path))[0] == 6
    assert run(theirs, "drop-rounds", "--older-than", "1")[1] == {
        "measurements without rounds now": 0
    }
    assert run(theirs, "drop-rounds", "--older-than", "0")[1] == {
        "measurements without rounds now": 12
    }
