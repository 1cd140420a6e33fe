"""The options of `perdure dev` and `perdure start` that say how long endpoints may be silent."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from perdure.apps.settings import Patience
from perdure.cli import main, serving
from perdure.cli.serving import Settings

KEYS = ("--event-key", "orders", "--signing-key", "00ff")


@pytest.mark.parametrize("command", [("dev",), ("start", *KEYS)])
def test_how_long_endpoints_may_be_silent(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setattr(serving, "serve", served.append)
    runner = CliRunner(env={"PERDURE_ENDPOINT_SILENCE": "90"})
    for more in ((), ("--endpoint-silence", "30", "--endpoint-grace", "0.5")):
        result = runner.invoke(main, [*command, *more])
        assert result.exit_code == 0, result.output
    assert [settings.patience for settings in served] == [Patience(90, 5), Patience(30, 0.5)]
    assert serving._options(served[1]).get("endpoint_grace") == 0.5
    refused = runner.invoke(main, [*command, "--endpoint-silence", "0"])
    assert refused.exit_code == 2 and "--endpoint-silence" in refused.output
