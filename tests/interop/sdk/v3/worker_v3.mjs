// The catalogue on npm's `inngest` version 3 as a worker: it dials the server instead of being called.

import * as sdk from "inngest";
import { connect } from "inngest/connect";

import { catalogue } from "../catalogue.mjs";
import { host, logger, note } from "../host.mjs";

const app = process.env.APP_ID ?? "v3-worker";
const client = new sdk.Inngest({ id: app, logger });
const define = (options, triggers, handler) => client.createFunction(options, triggers, handler);
const functions = Object.values(catalogue({ app, sdk, define, note }));

await connect({ apps: [{ client, functions }], instanceId: "a-machine" });
host({}, { "/send": async (events) => (await client.send(events)).ids });
