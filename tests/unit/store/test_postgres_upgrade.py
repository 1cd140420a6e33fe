"""A rolling upgrade: nodes of the version before work beside the new ones, and what they need goes after them."""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing
from pathlib import Path

from perdure import embedded
from perdure.engine import reads
from perdure.node import Node
from tests.support.older_node import build
from tests.support.postgres import PostgresServer
from tests.support.postgres_session import PostgresSession

ROOT = Path(__file__).parents[3]
OLD = """SELECT proname FROM pg_proc
WHERE pronamespace = 'perdure'::regnamespace AND proname IN ('tell_1', 'commit_plain_1')"""


async def finished(node: Node, run_ids: list[str]) -> list[list[str]]:
    """What the runs give, which wait for an event each, by number."""
    results: asyncio.Future[list[list[str]]] = asyncio.gather(
        *(node.run(run_id).result(timeout=30) for run_id in run_ids)
    )
    while not results.done():
        # One that does not wait yet hears the next.
        await node.send([{"name": "t/go", "data": {"n": n}} for n in range(len(run_ids))])
        await asyncio.sleep(0.05)
    return await results


async def test_an_older_node_and_a_newer_one_share_the_work(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    older = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.older_node", url,
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert older.stdin is not None and older.stdout is not None
    try:
        assert await asyncio.wait_for(older.stdout.readline(), 60) == b"ready\n"
        with closing(PostgresSession(url)) as session:
            async with embedded(build("newer"), db=url) as newer:
                assert len(session.execute(OLD)) == 2
                begun: list[str] = []
                for number in range(10):
                    older.stdin.write(f"{number}\n".encode())
                    begun.append((await asyncio.wait_for(older.stdout.readline(), 30)).decode().strip())
                results = await finished(newer, begun)
                # What an older node tells the newer hears, and the other way round: nobody waited for a look around.
                assert all(first == "older" for first, _ in results)
                assert await newer.view(lambda: reads.ready_jobs(1)) == []
                older.stdin.close()
                assert await asyncio.wait_for(older.wait(), 30) == 0
            session.execute("UPDATE perdure.writer SET at = at - interval '10 min'")
            async with embedded(build("newer"), db=url) as newer:
                assert session.execute(OLD) == []
                begun = [(await newer.trigger("t-f", {"n": number})).run_id for number in range(10)]
                assert await finished(newer, begun) == [["newer", "newer"]] * 10
    finally:
        if older.returncode is None:
            older.kill()
            await older.wait()
    postgres_server.drop_database(url)
