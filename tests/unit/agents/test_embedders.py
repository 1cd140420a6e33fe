"""The embedder that speaks OpenAI's protocol, against a server of this test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from perdure.agents.errors import InvalidOptionError
from perdure.agents.memory import EmbeddingError, OpenAIEmbedder
from perdure.model.json import Json
from tests.support.hosting import aiohttp_server


@asynccontextmanager
async def answering(answer: Callable[[Json], Json], seen: list[Json], status: int = 200) -> AsyncGenerator[str]:
    """A server whose address is given; `seen` gets the key and the body of each request."""

    async def embeddings(request: web.Request) -> web.Response:
        body = await request.json()
        seen.append({"key": request.headers.get("authorization"), **body})
        return web.json_response(answer(body), status=status)

    app = web.Application()
    app.router.add_post("/v1/embeddings", embeddings)
    async with aiohttp_server(app) as url:
        yield url + "/v1"


def backwards(body: Json) -> Json:
    """Vectors of the lengths of the texts, the last text's first."""
    rows = [{"index": index, "embedding": [len(text), 1]} for index, text in enumerate(body["input"])]
    return {"data": rows[::-1]}


async def test_texts_become_vectors_in_their_order() -> None:
    seen: list[Json] = []
    async with answering(backwards, seen) as url:
        environ = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-test"}
        embedder = OpenAIEmbedder("openai/small", dimensions=2, environ=environ)
        assert await embedder(["a", "bbb"]) == [[1.0, 1.0], [3.0, 1.0]]
        assert len(await embedder(["x"] * 100)) == 100
    assert seen[0] == {
        "key": "Bearer sk-test",
        "model": "small",
        "input": ["a", "bbb"],
        "encoding_format": "float",
        "dimensions": 2,
    }
    assert [len(each["input"]) for each in seen[1:]] == [96, 4]
    assert embedder.space == "openai/small@2"
    assert "sk-test" not in repr(embedder)


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (lambda body: {}, 200, "answered with something else"),
        (lambda body: {"data": [{"index": 0, "embedding": ["x"]}]}, 200, "answered with something else"),
        (lambda body: {"data": []}, 200, "gave 0 vectors for 1 texts"),
        (lambda body: {"error": {"message": "sk-test is wrong"}}, 401, "answered with status 401"),
    ],
)
async def test_what_is_no_answer_is_an_error_without_secrets(
    answer: Callable[[Json], Json], status: int, text: str
) -> None:
    async with answering(answer, [], status) as url:
        with pytest.raises(EmbeddingError, match=text) as caught:
            await OpenAIEmbedder("any/small", base_url=url, api_key="sk-test", environ={})(["a"])
    assert "sk-test" not in str(caught.value)


async def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(EmbeddingError, match="did not answer"):
        await OpenAIEmbedder("any/small", base_url="http://127.0.0.1:9/v1", api_key="k", environ={})(["a"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("small", 'must be named "provider/model"'),
        ("nobody/small", "no address is known for the provider 'nobody'"),
        ("openai/small", "needs a key: set OPENAI_API_KEY"),
    ],
)
def test_a_name_that_cannot_be_used_says_what_is_missing(name: str, text: str) -> None:
    with pytest.raises(InvalidOptionError, match=text):
        OpenAIEmbedder(name, environ={})
