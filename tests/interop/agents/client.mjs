// What the published client of the agents protocol sees of a server: `node client.mjs <url> <scenario>` prints JSON.

import { MastraClient } from "@mastra/client-js";
import { z } from "zod";

const [baseUrl, scenario] = process.argv.slice(2);
const client = new MastraClient({ baseUrl, retries: 0 });
const mine = client.getAgent("my-agent");
const durable = client.getAgent("durable-agent");

async function chunks(response) {
  const said = [];
  await response.processDataStream({ onChunk: async (chunk) => void said.push(chunk) });
  return said;
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return { status: error.status, body: error.body };
  }
  return null;
}

const red = [];
const changeColor = {
  id: "changeColor",
  description: "Changes the background color",
  inputSchema: z.object({ color: z.string() }),
  execute: async (input) => {
    red.push(input.color ?? input.context?.color);
    return { success: true };
  },
};

const scenarios = {
  async discovery() {
    return {
      list: await client.listAgents(),
      partial: await client.listAgents(undefined, true),
      details: await mine.details(),
      tool: await mine.getTool("weather"),
      executed: await mine.executeTool("weather", { data: { city: "Paris" } }),
      refused: await mine.executeTool("weather", { data: { city: 5 } }),
      failures: [
        await failure(client.getAgent("nope").details()),
        await failure(mine.getTool("nope")),
        await failure(mine.executeTool("nope", { data: {} })),
        await failure(mine.executeTool("weather", {})),
      ],
    };
  },
  async generate() {
    const memory = { thread: "g1", resource: "ada" };
    return {
      text: await mine.generate("Hello, how are you?"),
      tool: await mine.generate('!saytool weather {"city":"Paris"}'),
      object: await mine.generate('!json {"name":"Ada","age":36}', {
        structuredOutput: { schema: z.object({ name: z.string(), age: z.number() }) },
      }),
      first: await mine.generate("one", { memory }),
      second: await mine.generate("two", { memory }),
      durable: await durable.generate("Hello", { runId: "dur-1" }),
      failures: [
        await failure(mine.generate("")),
        await failure(mine.generate("x", { memory: { thread: "g1", resource: "eve" } })),
        await failure(mine.generate("x", { memory: { resource: "ada" } })),
        await failure(mine.generate("!error kaboom")),
        await failure(client.getAgent("nope").generate("x")),
      ],
    };
  },
  async stream() {
    return {
      text: await chunks(await mine.stream("Tell me a story")),
      tool: await chunks(await mine.stream('!saytool weather {"city":"Paris"}')),
      error: await chunks(await mine.stream("!miderror broke")),
      thrown: await chunks(await mine.stream("!tool failTool {}")),
      reasoning: await chunks(await mine.stream("!reason why")),
      object: await chunks(
        await mine.stream('!json {"n":1}', { structuredOutput: { schema: z.object({ n: z.number() }) } }),
      ),
      durable: await chunks(await durable.stream('!tool weather {"city":"Rome"}')),
      failures: [await failure(client.getAgent("nope").stream("x"))],
    };
  },
  async approval() {
    const asked = await chunks(await mine.stream('!tool deleteThing {"thing":"a"}'));
    const { runId } = asked[0];
    const listed = await mine.listSuspendedRuns();
    const wrong = await failure(mine.approveToolCall({ runId, toolCallId: "wrong" }));
    const approved = await chunks(await mine.approveToolCall({ runId, toolCallId: "call_1" }));
    const twice = await failure(mine.approveToolCall({ runId, toolCallId: "call_1" }));
    const two = await chunks(await mine.stream('!tools deleteThing {"thing":"x"} | deleteThing {"thing":"y"}'));
    const call = { runId: two[0].runId, toolCallId: "call_1" };
    const firstOfTwo = await chunks(await mine.approveToolCall(call));
    const secondOfTwo = await chunks(await mine.declineToolCall({ ...call, toolCallId: "call_2", reason: "no" }));
    const suspended = await mine.generate('!tool deleteThing {"thing":"b"}');
    const generated = await mine.approveToolCallGenerate({ runId: suspended.runId, toolCallId: "call_1" });
    const human = await chunks(await mine.stream('!tool askHuman {"question":"color?"}'));
    const resumed = await chunks(
      await mine.resumeStream({ answer: "blue" }, { runId: human[0].runId, toolCallId: "call_1" }),
    );
    const unknown = await failure(mine.approveToolCall({ runId: "nope", toolCallId: "x" }));
    return { asked, listed, wrong, approved, twice, two, firstOfTwo, secondOfTwo, suspended, generated, human, resumed, unknown };
  },
  async clientTools() {
    const clientTools = { changeColor };
    const ask = (color) => [{ role: "user", content: `!tool changeColor {"color":"${color}"}` }];
    const memory = { thread: "c1", resource: "ada" };
    const generated = await mine.generate(ask("red"), { clientTools });
    const streamed = await chunks(await mine.stream(ask("green"), { clientTools }));
    const remembered = await chunks(await mine.stream(ask("blue"), { clientTools, memory }));
    const mixed = await chunks(
      await mine.stream('!tools weather {"city":"Rome"} | changeColor {"color":"grey"}', { clientTools, memory: { ...memory, thread: "c2" } }),
    );
    const named = await chunks(await mine.stream(ask("pink"), { clientTools, runId: "named" }));
    const asked = await chunks(await mine.stream('!chain deleteThing {"thing":"q"} | changeColor {"color":"black"}', { clientTools }));
    const approved = await chunks(await mine.approveToolCall({ runId: asked[0].runId, toolCallId: "call_1", clientTools }));
    return { generated, streamed, remembered, mixed, named, approved, colors: red };
  },
  async durable() {
    const going = await durable.stream('!tool deleteThing {"thing":"a"}', { runId: "obs-1" });
    const reading = chunks(going);
    while ((await durable.listSuspendedRuns()).total === 0) await new Promise((done) => setTimeout(done, 20));
    const approved = await chunks(await durable.approveToolCall({ runId: "obs-1", toolCallId: "call_1" }));
    const whole = await reading;
    const observed = await chunks(await durable.observe({ runId: "obs-1" }));
    const rest = await chunks(await durable.observe({ runId: "obs-1", offset: observed[3].index }));
    const recovered = await chunks(await durable.recover({ runId: "obs-1" }));
    return { whole, approved, observed, rest, recovered, refused: await failure(mine.recover({ runId: "obs-1" })) };
  },
  async network() {
    const network = client.getAgent("network-agent");
    const routed = await chunks(await network.network("!net agent:researcher Look it up", {}));
    const memory = { thread: "n1", resource: "ada" };
    const asked = await chunks(await network.network('!net tool:deleteThing {"thing":"x"}', { memory }));
    const approved = await chunks(await network.approveNetworkToolCall({ runId: asked[0].runId }));
    const refused = await failure(client.getAgent("plain-agent").network("x", {}));
    return { routed: routed.filter((chunk) => !chunk.type.startsWith("agent-execution-event-")), asked, approved, refused };
  },
  async memory() {
    const agentId = "my-agent";
    const created = await client.createMemoryThread({ agentId, resourceId: "ada", threadId: "m1", title: "Mine" });
    await mine.generate("hello", { memory: { thread: "m1", resource: "ada" } });
    const thread = client.getMemoryThread({ threadId: "m1", agentId });
    const listed = await client.listMemoryThreads({ agentId, resourceId: "ada" });
    const messages = await thread.listMessages();
    const last = await thread.listMessages({ page: 0, perPage: 1 });
    const updated = await thread.update({ title: "New", metadata: { a: 2 }, resourceId: "ada" });
    const cloned = await thread.clone({ newThreadId: "m2" });
    const saved = await client.saveMessageToMemory({
      agentId,
      messages: [{ id: "s1", role: "user", threadId: "m1", resourceId: "ada", createdAt: new Date(), content: { format: 2, parts: [{ type: "text", text: "saved" }] } }],
    });
    const forgotten = await thread.deleteMessages(["s1"]);
    const noted = { agentId: "noted-agent", threadId: "m1", resourceId: "ada" };
    await client.updateWorkingMemory({ ...noted, workingMemory: "# Name: Bob" });
    const notes = await client.getWorkingMemory(noted);
    const gone = await thread.delete();
    return {
      created, listed, messages, last, updated, cloned, saved, forgotten, notes, gone,
      got: await client.getMemoryThread({ threadId: "m2", agentId }).get(),
      status: [await client.getMemoryStatus(agentId), await client.getMemoryStatus("plain-agent")],
      failures: [await failure(thread.get()), await failure(client.createMemoryThread({ agentId: "plain-agent", resourceId: "x" }))],
    };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
