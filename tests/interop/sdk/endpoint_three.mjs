// An endpoint of three steps on npm's `inngest`, beside the same handler without them, for `python -m bench.endpoints`.

import http from "node:http";

import { Inngest, step } from "inngest";
import { endpointAdapter, serveEndpoint } from "inngest/node";

const client = new Inngest({ id: "bench", endpointAdapter });
const one = async (n) => ({ n });
const three = serveEndpoint(
  client.endpoint(async () => {
    const found = [];
    for (const n of [0, 1, 2]) found.push(await step.run(`step ${n}`, () => one(n)));
    return Response.json(found);
  }),
);
const plain = async (request, response) => {
  const found = [];
  for (const n of [0, 1, 2]) found.push(await one(n));
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify(found));
};
const server = http.createServer((request, response) => (request.url.startsWith("/plain") ? plain : three)(request, response));
server.listen(0, "127.0.0.1", () => console.log(`app listens on http://127.0.0.1:${server.address().port}`));
