"""Scorers: what they judge, for which runs, and that they never change how a run ends."""

from __future__ import annotations

import pytest

from perdure.agents.agent import AgentFailedError
from perdure.agents.options import OptionError
from perdure.agents.scoring import Judged, Scorer, chosen, scorers_of
from perdure.model.errors import ConfigError
from perdure.testing.script import Fail
from tests.support.agent_runs import kinds, only, said_by, scripted


def brief(judged: Judged) -> float:
    """One for a short answer."""
    return 1 if len(judged.text) < 20 else 0


async def polite(judged: Judged) -> dict[str, object]:
    """Says why, too."""
    asked = judged.input[-1].text
    return {"score": 0.5, "reason": f"{judged.output[-1].text!r} to {asked!r}"}


def broken(judged: Judged) -> float:
    raise ValueError("no idea")


def wordy(judged: Judged) -> str:
    return "good"


async def test_what_scorers_give_is_told_before_the_end_and_in_the_result() -> None:
    agent, _ = scripted("hi", scorers={"brief": brief, "polite": polite, "broken": broken, "wordy": wordy})
    said = await said_by(agent, "hello")
    assert kinds(said).endswith("score step-finish finish")
    told = only(said, "score")
    assert told[:3] == [
        {"scorer": "brief", "score": 1.0},
        {"scorer": "polite", "score": 0.5, "reason": "'hi' to 'hello'"},
        {"scorer": "broken", "error": {"name": "ValueError", "message": "no idea"}},
    ]
    assert "must give a number" in told[3]["error"]["message"]
    agent, _ = scripted("hi", scorers={"brief": brief})
    result = await agent.generate("hello")
    assert (result.finish_reason, result.scores) == ("stop", [{"scorer": "brief", "score": 1.0}])


async def test_a_run_chooses_its_scorers() -> None:
    agent, _ = scripted(*["hi"] * 4, scorers={"brief": brief, "polite": Scorer(polite, share=0)})
    assert [item["scorer"] for item in (await agent.generate("a")).scores] == ["brief"]
    assert [item["scorer"] for item in (await agent.generate("a", scorers=["polite"])).scores] == ["polite"]
    sampled = {"brief": {"scorer": "brief", "sampling": {"type": "ratio", "rate": 0}}}
    assert (await agent.generate("a", scorers=sampled)).scores == []
    assert (await agent.generate("a", scorers=[])).scores == []
    with pytest.raises(OptionError, match="scorers: no scorer 'fast' is registered with the agent; there are: brief"):
        await agent.generate("a", scorers=["fast"])
    with pytest.raises(OptionError, match=r"scorers\.brief: must be a share"):
        await agent.generate("a", scorers={"brief": 2})


async def test_a_run_that_fails_is_not_judged() -> None:
    agent, _ = scripted([Fail("no such model", 404)], scorers={"brief": brief})
    with pytest.raises(AgentFailedError) as failed:
        await agent.generate("a")
    assert failed.value.result.scores == []


def test_a_share_of_the_runs_is_judged() -> None:
    scorers = scorers_of({"brief": Scorer(brief, share=0.25)})
    judged = [run for run in map(str, range(1000)) if chosen(scorers, None, run)]
    assert 200 < len(judged) < 300
    assert judged == [run for run in map(str, range(1000)) if chosen(scorers, None, run)]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"brief": 5}, "brief: must be a function, got 5"),
        ({"brief": Scorer(brief, share=1.5)}, "brief.share: must be from 0 to 1"),
        (["brief"], "must be judges by name"),
    ],
)
def test_what_is_no_scorer_is_refused(given: object, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        scripted("hi", scorers=given)
