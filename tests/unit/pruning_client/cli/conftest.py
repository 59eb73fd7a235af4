"""``pruning-client`` in this process, as a user types it."""

from __future__ import annotations

import pytest

from pruning_client.cli.main import main
from tests.support.outcomes import Outcome, Run


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    # as wide as no message is, so that none is broken into lines
    monkeypatch.setenv("COLUMNS", "400")

    def invoke(*words: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["pruning-client", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return invoke
