"""`rekindle keys`: a key is told once, listed without its secret, and revoked."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rekindle
from features.keys import Keys, opens, parts
from features.log import EventLog

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the command line silences libraries; here they are called without its main
]


def run(home: Path, *arguments: str) -> Any:
    result = CliRunner().invoke(rekindle.app, ["keys", *arguments, "--json"], env={"REKINDLE_HOME": str(home)})
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_key_is_listed_without_its_secret_and_revoked_once(tmp_path: Path) -> None:
    made = run(tmp_path, "create", "--name", "coach", "--scope", "score", "--scope", "read", "--organization", "acme")
    sent = parts(made["key"])
    assert sent is not None
    key_id, secret = sent

    before = run(tmp_path, "list")
    revoked = [run(tmp_path, "revoke", key_id)["revoked"] for _ in range(2)]
    after = run(tmp_path, "list")

    assert [(one["key_id"], one["name"], one["organization"], one["scopes"]) for one in before] == [
        (key_id, "coach", "acme", ["read", "score"])
    ]
    assert (before[0]["is_valid"], after[0]["is_valid"], revoked) == (True, False, [True, False])
    assert secret not in json.dumps([before, after])
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}")
    (stored,) = Keys(log.database).all()
    log.close()
    assert opens(stored, secret)


def test_revoking_a_key_that_is_not_there_is_said(tmp_path: Path) -> None:
    result = CliRunner().invoke(rekindle.app, ["keys", "revoke", "nobody"], env={"REKINDLE_HOME": str(tmp_path)})

    assert result.exit_code != 0
    assert "there is no key 'nobody'" in str(result.exception)
