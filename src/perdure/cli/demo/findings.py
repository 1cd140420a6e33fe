"""Findings: what a part of the demo claims, whether it holds, and the counts behind it."""

from __future__ import annotations

import click
import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One claim, whether it holds, and the counts behind it or the first few cases against it."""

    holds: bool
    claim: str
    detail: str


def finding(claim: str, detail: str, against: list[str]) -> Finding:
    """A claim that holds if nothing speaks against it.

    >>> finding("all are white", "3 swans", ["one is black"])
    Finding(holds=False, claim='all are white', detail='one is black')
    """
    if not against:
        return Finding(True, claim, detail)
    more = f" and {len(against) - 3} more" if len(against) > 3 else ""
    return Finding(False, claim, "; ".join(against[:3]) + more)


def report(findings: list[Finding], source: str) -> None:
    """Prints findings, under what they rest on."""
    click.echo(f"\nEvidence ({source})")
    for found in findings:
        mark = click.style("holds", fg="green") if found.holds else click.style("FAILS", fg="red", bold=True)
        click.echo(f"  {mark}  {found.claim}\n         {found.detail}")
