// What the published client sees of stored agents and versions: `node stored.mjs <url> <scenario>` prints JSON.

import { MastraClient } from "@mastra/client-js";

const [baseUrl, scenario] = process.argv.slice(2);
const client = new MastraClient({ baseUrl, retries: 0 });
const model = { provider: "mock/acme", name: "mock-model" };
const first = { id: "my-stored", name: "My Assistant", instructions: "You are a helpful assistant.", model };
const full = {
  id: "full-agent", name: "Full Agent", description: "A fully configured agent", instructions: first.instructions, model,
  tools: { weather: {}, findUser: { description: "override desc" } }, workflows: { "upper-wf": {} },
  agents: { "my-agent": {} }, memory: { options: { lastMessages: 20, semanticRecall: false } },
  scorers: { brief: { sampling: { type: "ratio", rate: 0.5 } } }, defaultOptions: { maxSteps: 10 },
  metadata: { version: "1.0", team: "engineering" },
};

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return [error.status, error.body?.error];
  }
  return null;
}

async function said(response) {
  const found = [];
  await response.processDataStream({ onChunk: async (chunk) => void found.push(chunk) });
  return found;
}

const scenarios = {
  async agents() {
    const empty = await client.listStoredAgents();
    const created = await client.createStoredAgent(first);
    const draft = await client.createStoredAgent({ name: "Slug Me Please!", instructions: "x", model, autoPublish: false });
    const made = await client.createStoredAgent(full);
    const stored = client.getStoredAgent("my-stored");
    const updated = await stored.update({ name: "Updated", tools: { weather: {} } });
    const noted = await stored.update({ metadata: { version: "2.0" } });
    const published = await stored.update({ description: "desc", changeMessage: "my change", autoPublish: true });
    return {
      empty, created, draft, made, updated, noted, published,
      details: await stored.details(),
      asDraft: await stored.details(undefined, { status: "draft" }),
      listed: await client.listStoredAgents({ page: 0, perPage: 1, orderBy: { field: "createdAt", direction: "ASC" } }),
      drafts: await client.listStoredAgents({ status: "draft" }),
      byMetadata: await client.listStoredAgents({ metadata: { team: "engineering" } }),
      dependents: await client.getStoredAgent("my-stored").dependents(),
      exported: await stored.export({}),
      all: Object.keys(await client.listAgents()),
      agent: await client.getAgent("full-agent").details(),
      ran: await client.getAgent("full-agent").generate('!tool weather {"city":"Paris"}', {
        memory: { thread: "st-full", resource: "user-123" },
      }),
      failures: [
        await failure(client.createStoredAgent(first)),
        await failure(client.createStoredAgent({ id: "x", instructions: "x", model })),
        await failure(client.createStoredAgent({ id: "x", name: "X", instructions: "x" })),
        await failure(client.createStoredAgent({ ...first, id: "x", memory: { options: { semanticRecall: true } } })),
        await failure(client.getStoredAgent("nope").details()),
        await failure(client.getStoredAgent("nope").update({ name: "x" })),
        await failure(stored.update({ description: null })),
        await failure(client.listStoredAgents({ perPage: -1 })),
      ],
      deleted: await stored.delete(),
      gone: [
        await failure(stored.delete()),
        await failure(client.getAgent("my-stored").details()),
        await failure(stored.listVersions()),
      ],
    };
  },
  async versions() {
    await client.createStoredAgent(first);
    const stored = client.getStoredAgent("my-stored");
    await stored.update({ name: "Second", instructions: "Second.", tools: { weather: {} } });
    const listed = await stored.listVersions();
    const [second, initial] = listed.versions;
    const taken = await stored.createVersion({ changeMessage: "Updated tone" });
    const activated = await stored.activateVersion(second.id);
    const restored = await stored.restoreVersion(initial.id);
    const agent = client.getAgent("my-stored", { versionId: initial.id });
    const context = (id) => ({ requestContext: { agentVersionId: id } });
    return {
      listed, taken, activated, restored,
      got: await stored.getVersion(initial.id),
      compared: await stored.compareVersions(initial.id, second.id),
      same: await stored.compareVersions(initial.id, initial.id),
      page: await stored.listVersions({ page: 1, perPage: 1, orderBy: { field: "versionNumber", direction: "ASC" } }),
      details: await client.getAgent("my-stored").details(),
      older: await agent.details(),
      olderTool: await failure(agent.getTool("weather")),
      tool: await client.getAgent("my-stored").getTool("weather"),
      prompts: [
        (await client.getAgent("my-stored").generate("!prompt")).text,
        (await client.getAgent("my-stored").generate("!prompt", context(initial.id))).text,
        (await client.getAgent("my-stored").generate("!prompt", context("nope"))).text,
      ],
      failures: [
        await failure(stored.getVersion("nope")),
        await failure(stored.activateVersion("nope")),
        await failure(stored.restoreVersion("nope")),
        await failure(stored.compareVersions(initial.id, "nope")),
        await failure(stored.deleteVersion(second.id)),
        await failure(stored.createVersion({ changeMessage: "x".repeat(501) })),
        await failure(client.getAgent("my-agent").getVersion(initial.id)),
        await failure(client.getStoredAgent("nope").createVersion({})),
      ],
      deleted: await stored.deleteVersion(taken.id),
    };
  },
  async code() {
    const mine = client.getAgent("my-agent");
    const before = await mine.listVersions();
    const created = await mine.createVersion({ changeMessage: "Updated tone to be more friendly" });
    const edited = await client.getStoredAgent("my-agent").update({ instructions: "Friendlier." });
    const version = edited.resolvedVersionId;
    const untouched = (await mine.details()).instructions;
    const draft = (await client.getAgent("my-agent", { status: "draft" }).details()).instructions;
    const activated = await mine.activateVersion(version);
    const published = (await mine.details()).instructions;
    const answer = JSON.parse((await mine.generate("!prompt")).text)[0].text;
    const restored = await mine.restoreVersion(created.id);
    return {
      before, created, untouched, draft, activated, published, answer, restored,
      compared: (await mine.compareVersions(created.id, version)).diffs,
      got: (await mine.getVersion(version)).versionNumber,
      deleted: await mine.deleteVersion(restored.id),
      failure: await failure(mine.deleteVersion(version)),
      unknown: await failure(client.getAgent("nope-agent").listVersions()),
      cleaned: await client.getStoredAgent("my-agent").delete(),
      after: (await mine.details()).instructions,
    };
  },
  async models() {
    const plain = client.getAgent("plain-agent");
    const { providers } = await client.listAgentsModelProviders();
    const updated = await plain.updateModel({ provider: "mock", modelId: "other" });
    const chosen = await plain.details();
    const answered = (await plain.generate("hi")).response.modelId;
    const reset = await plain.resetModel();
    const many = client.getAgent("many-agent");
    const ids = async () => (await many.details()).modelList.map((each) => [each.id, each.model.modelId, each.maxRetries]);
    const original = await ids();
    const reordered = await many.reorderModelList({ reorderedModelIds: [original[1][0], original[0][0]] });
    const changed = await many.updateModelInModelList({
      modelConfigId: original[0][0], model: { provider: "mock", modelId: "other" }, maxRetries: 5,
    });
    return {
      provider: providers.find((each) => each.id === "openai"), updated, chosen, answered, reset,
      after: (await plain.details()).modelId,
      original, reordered, changed, list: await ids(),
      failures: [
        await failure(plain.reorderModelList({ reorderedModelIds: ["x"] })),
        await failure(many.reorderModelList({ reorderedModelIds: ["x"] })),
        await failure(plain.updateModel({ provider: "mock" })),
        await failure(client.getAgent("nope").resetModel()),
      ],
    };
  },
  async clones() {
    const cloned = await client.getAgent("my-agent").clone();
    const named = await client.getAgent("plain-agent").clone({ newId: "copy", newName: "Copy", metadata: { a: 1 } });
    return {
      cloned, named,
      again: await failure(client.getAgent("my-agent").clone()),
      ran: (await client.getAgent("my-agent-clone").generate('!tool weather {"city":"Rome"}')).text,
    };
  },
  // An agent is edited, and deleted, while a run of it waits; the run goes on as it began.
  async waiting() {
    await client.createStoredAgent({ ...first, tools: { deleteThing: {} }, memory: { options: { lastMessages: 5 } } });
    const stored = client.getStoredAgent("my-stored");
    const agent = client.getAgent("my-stored");
    const runId = "st-run";
    const asked = await agent.generate('!tool deleteThing {"thing":"a"}', { runId });
    await stored.update({ tools: {}, instructions: "Other.", autoPublish: true });
    const approved = await said(await agent.approveToolCall({ runId, toolCallId: asked.suspendPayload.toolCallId }));
    return { asked: asked.finishReason, approved: approved.map((each) => each.type) };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
