"""Configurations of stored agents: what is wrong with one, what of it holds for a request, what becomes of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import App, Context
from perdure.agents import Agent, Processor, Scorer, tool
from perdure.agents.memory.embedders import EmbeddingError
from perdure.agents.models.failure import ModelRejectedError
from perdure.agents.stored import serve_stored_agents
from perdure.agents.stored.building import Variant, build, missing, model_name
from perdure.agents.stored.config import Fault, faults, instructions_of, resolved, slug_of
from perdure.agents.stored.registry import Registry
from perdure.agents.stored.rules import chosen, filled, holds
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.testing import ScriptedModel

CONTEXT: Json = {"user": {"role": "admin", "tags": ["beta"], "age": 7}, "plan": "pro", "zero": 0, "yes": True}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("field", "operator", "value", "expected"),
    [
        ("user.role", "equals", "admin", True),
        ("user.role", "not_equals", "admin", False),
        ("yes", "equals", 1, False),
        ("user.tags", "contains", "beta", True),
        ("plan", "contains", "r", True),
        ("plan", "not_contains", "x", True),
        ("user.age", "greater_than", 6, True),
        ("user.age", "less_than", 7, False),
        ("user.age", "greater_than_or_equal", 7, True),
        ("user.age", "less_than_or_equal", 6, False),
        ("plan", "greater_than", 1, False),
        ("plan", "in", ["pro", "free"], True),
        ("plan", "not_in", ["pro"], False),
        ("zero", "exists", None, True),
        ("user.name", "exists", None, False),
        ("user.name", "not_exists", None, True),
        ("plan", "sounds_like", "pro", False),
    ],
)
def test_conditions_compare_what_is_at_a_path(field: str, operator: str, value: Json, expected: bool) -> None:
    assert holds({"field": field, "operator": operator, "value": value}, CONTEXT) is expected


def test_groups_hold_where_all_or_some_of_their_conditions_do() -> None:
    yes = {"field": "plan", "operator": "equals", "value": "pro"}
    no = {"field": "plan", "operator": "equals", "value": "free"}
    assert holds({"operator": "OR", "conditions": [no, yes]}, CONTEXT)
    assert not holds({"operator": "AND", "conditions": [no, yes]}, CONTEXT)
    assert holds({"operator": "AND", "conditions": [yes, {"operator": "OR", "conditions": [no, yes]}]}, CONTEXT)
    assert holds({"operator": "AND", "conditions": []}, CONTEXT) and holds(None, CONTEXT)


@given(JSON, st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_rules_never_fail(rules: Json, context: Json) -> None:
    assert holds(rules, context) in (True, False)
    chosen(rules, context)


@given(
    st.dictionaries(st.sampled_from(["name", "instructions", "model", "tools", "memory", "scorers", "agents"]), JSON)
)
def test_a_configuration_is_right_or_its_faults_are_named(config: Json) -> None:
    """What has no faults can be resolved."""
    found = list(faults(config))
    assert all(fault.field.split(".")[0] in config and fault.message for fault in found)
    if not found:
        resolved(config, {})


def test_texts_are_filled_in() -> None:
    given = "{{ user.role }} {{plan}} {{missing}} {{missing || 'none'}} {{user.tags}} {{1bad}}"
    assert filled(given, CONTEXT) == 'admin pro {{missing}} none ["beta"] {{1bad}}'


def test_blocks_become_one_text() -> None:
    rules = {"operator": "AND", "conditions": [{"field": "plan", "operator": "equals", "value": "free"}]}
    blocks: Json = [
        {"type": "text", "content": "Be kind to {{user.role}}."},
        {"type": "prompt_block", "content": "Sell.", "rules": rules},
        {"type": "prompt_block_ref", "id": "brand"},
        {"type": "prompt_block", "content": "Be brief."},
    ]
    assert instructions_of(blocks, CONTEXT) == "Be kind to admin.\n\nBe brief."
    assert list(faults({"instructions": blocks})) == []


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"name": 5}, "name"),
        ({"description": None}, "description"),
        ({"instructions": [{"type": "poem"}]}, "instructions.0"),
        ({"model": {"provider": "openai"}}, "model.name"),
        ({"model": [{"value": {"name": "x"}}]}, "model.0.value.provider"),
        ({"tools": ["weather"]}, "tools"),
        ({"tools": {"weather": True}}, "tools.weather"),
        ({"tools": [{"value": {}, "rules": {"operator": "XOR"}}]}, "tools.0.rules"),
        ({"scorers": {"a": {"sampling": {"type": "ratio", "rate": 2}}}}, "scorers.a.sampling"),
        ({"memory": {"options": 1}}, "memory.options"),
        ({"inputProcessors": {"steps": {}}}, "inputProcessors.steps"),
        ({"inputProcessors": {"steps": [{"type": "step"}]}}, "inputProcessors.steps.0"),
    ],
)
def test_faults_name_their_field(config: Json, field: str) -> None:
    assert [fault.field for fault in faults(config)] == [field]


def test_only_some_fields_may_be_null() -> None:
    assert list(faults({"memory": None, "name": None}, nullable=("memory",))) == [
        Fault("name", "Invalid input: expected string, received null")
    ]


def test_ids_are_made_of_names() -> None:
    assert [slug_of(name) for name in ("Slug Me Please!", "Ünïcode  Agent", "---")] == [
        "slug-me-please", "unicode-agent", "",
    ]  # fmt: skip


@tool
def weather(city: str) -> str:
    """Tells the weather."""
    return city


def say(text: str) -> str:
    return text


class Guard(Processor):
    id = "guard"


def app_with_parts() -> App:
    app = App("shop")
    app.add_model("mock/one", ScriptedModel(name="mock/one"))
    app.add_tool(weather)
    app.add_tool(say, key="echo")
    app.add_scorer("brief", lambda judged: 1.0)
    app.add_processor(Guard())

    @app.function("upper", trigger="x/upper")
    async def upper(ctx: Context) -> str:
        return ""

    inner = Agent(
        "inner",
        model=ScriptedModel(name="mock/inner"),
        tools=[weather],
        scorers={"kind": Scorer(lambda judged: len(judged.text))},
    )
    app.add_agent(
        Agent("coder", model=ScriptedModel(), agents={"helper": inner}, instructions="Code.", tools=[weather])
    )
    return app


MODEL: Json = {"provider": "mock", "name": "one"}


def test_parts_are_found_by_their_keys() -> None:
    registry = Registry(app_with_parts())
    assert set(registry.tools) == {"weather", "echo"} and registry.tools["echo"].name == "echo"
    assert set(registry.agents) == {"coder", "helper", "inner"} and set(registry.workflows) == {"upper", "shop-upper"}
    assert set(registry.scorers) == {"brief", "kind"} and set(registry.processors) == {"guard"}
    assert registry.model("mock/inner", 2).name == "mock/inner"


def test_an_agent_is_made_of_parts_and_what_is_missing_is_told() -> None:
    registry = Registry(app_with_parts())
    config: Json = {
        "name": "Desk", "instructions": "Help.", "model": MODEL,
        "tools": {"weather": {"description": "Skies"}, "no": {}},
        "agents": {"inner": {"description": "Deep"}, "gone": {}}, "workflows": {"upper": {}}, "skills": {"s": {}},
        "scorers": {"brief": {"sampling": {"type": "ratio", "rate": 0.5}}},
        "memory": {"options": {"lastMessages": 3, "generateTitle": True}},
        "inputProcessors": {"steps": [{"type": "step", "step": {"id": "s1", "providerId": "guard"}}]},
        "defaultOptions": {"maxSteps": 9, "modelSettings": {"temperature": 0}, "tracingOptions": {}},
    }  # fmt: skip
    agent = build("desk", Variant("v1", resolved(config, {})), registry, None)
    assert (agent.id, agent.name, agent.version, agent.models.name) == ("desk", "Desk", "v1", "mock/one")
    assert agent.tools["weather"].description == "Skies" and weather.description == "Tells the weather."
    assert agent.agents["inner"].description == "Deep" and list(agent.workflows) == ["upper"]
    assert agent.scorers["brief"].share == 0.5 and [each.id for each in agent.input_processors] == ["guard"]
    assert agent.memory.config()["lastMessages"] == 3 and agent.max_steps == 9
    assert agent.default_options == {"max_steps": 9, "model_settings": {"temperature": 0}}
    told = {(each.field, each.key) for each in missing(config, registry, {})}
    assert told == {("tools", "no"), ("agents", "gone"), ("skills", "skills")}


def test_agents_of_data_may_have_each_other() -> None:
    one: Json = {"name": "One", "instructions": "", "model": MODEL, "agents": {"two": {}}}
    two: Json = {"name": "Two", "instructions": "", "model": MODEL, "agents": {"one": {}}}
    variant = Variant("v", one, agents={"two": Variant("w", two), "one": Variant("v", one)})
    agent = build("one", variant, Registry(app_with_parts()), None)
    assert agent.agents["two"].agents["one"] is agent


def test_an_agent_in_code_keeps_what_is_its_own() -> None:
    registry = Registry(app_with_parts())
    coder = registry.agents["coder"]
    config: Json = {"name": "Other", "instructions": "Be brief.", "model": MODEL, "tools": {"echo": {}}}
    made = build("coder", Variant("v", config, in_code=True), registry, coder)
    assert (made.name, made.models.name, made.instructions) == ("coder", "test/scripted", "Be brief.")
    assert set(made.tools) == {"weather", "echo"} and set(coder.tools) == {"weather"}
    assert list(made.agents) == ["helper"] and coder.instructions == "Code."


def test_models_are_chosen_for_a_list() -> None:
    app = app_with_parts()
    listed = [{"id": name, "model": ScriptedModel(name=f"mock/{name}")} for name in ("a", "b", "c")]
    app.add_agent(Agent("many", model=listed))
    registry = Registry(app)
    choice: Json = {"order": ["c"], "entries": {"a": {"enabled": False}, "b": {"model": "mock/one", "maxRetries": 0}}}
    made = build("many", Variant(model=choice, in_code=True), registry, registry.agents["many"])
    assert [(entry.id, entry.model.name, entry.max_retries) for entry in made.models.entries] == [
        ("c", "mock/c", 2), ("b", "mock/one", 0),
    ]  # fmt: skip


async def test_a_model_that_nobody_has_says_so_when_it_is_asked() -> None:
    config: Json = {"name": "D", "instructions": "", "model": {"provider": "nowhere", "name": "x"}}
    agent = build("d", Variant("v", config), Registry(app_with_parts()), None)
    assert agent.models.name == "nowhere/x" == model_name(config["model"])
    with pytest.raises(ModelRejectedError, match="nowhere"):
        await agent.models.entries[0].model.ask(None, None)  # type: ignore[arg-type]


def test_what_no_agent_can_be_is_refused() -> None:
    config: Json = {"name": "D", "instructions": "", "model": MODEL, "defaultOptions": {"toolChoice": 5}}
    with pytest.raises(ConfigError, match="tool_choice"):
        build("d", Variant("v", config), Registry(app_with_parts()), None)


def test_parts_of_an_app_are_checked() -> None:
    app = App("shop")
    adds: list[Callable[[], None]] = [
        lambda: app.add_tool(5),
        lambda: app.add_scorer("s", 5),
        lambda: app.add_model("nameless", ScriptedModel()),
        lambda: app.add_model("a/b", None),
        lambda: app.add_embedder("a/b", "text"),
        lambda: app.add_agent("agent"),
    ]
    for add in adds:
        with pytest.raises(ConfigError):
            add()
    assert not app.offers
    # What its arguments are, nobody can tell a model.
    app.add_tool(print, key="bad")
    with pytest.raises(ConfigError):
        serve_stored_agents(app)


async def test_an_embedder_is_one_of_the_app_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    async def letters(texts: list[str]) -> list[list[float]]:
        return [[float(len(text)), 1.0] for text in texts]

    app = app_with_parts()
    app.add_embedder("mine/letters", letters)
    for name, unknown in (("mine/letters", []), ("openai/text-embedding-3-small", ["memory"])):
        memory: Json = {"embedder": name, "vector": "any", "options": {"semanticRecall": {"topK": 3}}}
        config: Json = {"name": "D", "instructions": "", "model": MODEL, "memory": memory}
        assert list(faults(config)) == []
        assert [each.field for each in missing(config, Registry(app), {})] == unknown
        found = build("d", Variant("v", config), Registry(app), None).memory
        assert found.settings.recall.top_k == 3
        if unknown:
            with pytest.raises(EmbeddingError, match="OPENAI_API_KEY"):
                await found.embedder(["x"])
