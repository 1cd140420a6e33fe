"""Judges the agent's run: what an observer heard, beside the log, the ledger, and what the model was asked."""

from __future__ import annotations

import msgspec

from perdure.cli.demo.agent.observer import Observer
from perdure.cli.demo.agent.script import ORDER, SAID
from perdure.cli.demo.findings import Finding, finding
from perdure.cli.demo.ledger import Ledger
from perdure.model.json import Json


class Played(msgspec.Struct):
    """What happened. `late` read the whole stream after the end, `again` is the answer to a second approval, `asked`
    counts the requests to the model. Times in ms."""

    observer: Observer
    late: Observer
    killed: int
    successor: int
    offset: str
    approved_at: int
    again: tuple[int, Json]
    asked: int = 0


def judge(played: Played, ledger: Ledger) -> list[Finding]:
    """All findings."""
    return [_tokens(played), _same(played), _tools(played, ledger), _model(played), _approval(played, ledger)]


def _tokens(played: Played) -> Finding:
    heard = played.observer
    against = [] if heard.text == "".join(SAID) else [f"it kept “{heard.text}”"]
    against += [] if heard.heard == sorted(set(heard.heard)) else ["an event was told twice, or out of order"]
    against += [] if len(heard.taken_back) == 1 and heard.taken_back[0] else ["nothing was taken back"]
    return finding(
        "no committed token was repeated or lost over the SIGKILL",
        f"read on from offset {played.offset} at process {played.successor}: {len(heard.heard)} events in order, "
        f"“{heard.taken_back[0] if heard.taken_back else ''}” taken back and said anew",
        against,
    )


def _same(played: Played) -> Finding:
    stayed, late = played.observer.kept, played.late.kept
    against = [] if stayed == late else ["the two differ"]
    return finding(
        "who reads the stream after the end has what the observer has who was there",
        f"{len(late)} events each, with the same places",
        against,
    )


def _tools(played: Played, ledger: Ledger) -> Finding:
    begun, effects = ledger.count("begun"), ledger.count("effect")
    keys = [f"{ORDER}/find_order", f"{ORDER}/refund"]
    against = [f"{key} began {begun[key]} times" for key in keys if (begun[key], effects[key]) != (1, 1)]
    return finding("each tool ran once", ", ".join(f"{key} once" for key in keys), against)


def _model(played: Played) -> Finding:
    turns = len(SAID)
    against = [] if played.asked == turns + 1 else [f"it was asked {played.asked} times"]
    return finding(
        "of the model's answers only the one that was cut off was asked for again",
        f"{turns} turns, {played.asked} requests",
        against,
    )


def _approval(played: Played, ledger: Ledger) -> Finding:
    early = [entry for entry in ledger.entries if entry.key == f"{ORDER}/refund" and entry.at < played.approved_at]
    against = ["the refund was paid before anybody agreed"] if early else []
    status, said = played.again
    against += [] if status in (409, 410) else [f"a second approval was answered with {status}"]
    return finding(
        "nothing was paid before it was approved, and the approval counts once",
        f"a second one was answered with {status}: {said.get('error') if isinstance(said, dict) else said}",
        against,
    )
