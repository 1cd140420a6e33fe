"""A node as it was before migration 3 of PostgreSQL: `python -m tests.support.older_node URL`, until its input ends.

What migration 3 has replaced it calls by the old names, what the second part of a migration does it does not know, and
it tells the database that it knows version 2.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from perdure import App, Context, embedded, step
from perdure.store.postgres import link, migrate, statements
from perdure.store.postgres.migrate import Migration, migrations

VERSION = 2


def build(name: str) -> App:
    """An app whose step tells on which node it was done."""
    app = App("t")

    @app.function("f", trigger="t/f")
    async def f(ctx: Context) -> list[str]:
        first = await step.run("first", str, name)
        await step.wait_for_event("go", event="t/go", match="data.n", timeout="1h")
        return [first, await step.run("second", str, name)]

    return app


def _older() -> None:
    for name, query in statements.QUERIES.items():
        statements.QUERIES[name] = query._replace(sql=query.sql.replace("tell_2", "tell_1"))
    for write in statements.WRITES.values():
        write.sql = write.sql.replace("tell_2", "tell_1")
        write.tells = False
    patched: Any = link
    patched.COMMIT_PLAIN = patched.COMMIT_PLAIN.replace("commit_plain_2", "commit_plain_1")
    patched.latest = lambda: VERSION
    known = [Migration(*each) for each in migrations() if each.part == "pre"]
    migrate.migrations = lambda: known


async def _work(url: str) -> None:
    async with embedded(build("older"), db=url) as node:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            run = await node.trigger("t-f", {"n": int(line)})
            print(run.run_id, flush=True)


if __name__ == "__main__":
    _older()
    asyncio.run(_work(sys.argv[1]))
