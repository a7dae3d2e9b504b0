// jayson, a JSON-RPC client that others wrote, against a running daemon's Unix socket. It
// opens a connection for each request and separates messages by a newline.
"use strict";

const assert = require("node:assert");
const jayson = require("jayson/promise");

const client = jayson.Client.tcp({ path: process.argv[2] });

async function main() {
  const set = await client.request("record.set", { name: "peer.a", value: { x: [1, "ü", null] } });
  assert.ok(set.result.rev > 0, "a call is answered");
  const get = await client.request("record.get", { name: "peer.a" });
  assert.deepStrictEqual(get.result.value, { x: [1, "ü", null] });

  const missing = await client.request("record.get", { name: "peer.none" });
  assert.strictEqual(missing.error.code, -32001);
  assert.strictEqual(missing.error.data.reason, "not_found");
  const unknown = await client.request("no.such.method", {});
  assert.strictEqual(unknown.error.code, -32601);
  const positional = await client.request("record.get", ["peer.a"]);
  assert.strictEqual(positional.error.code, -32602);

  await client.request("record.set", { name: "peer.noted", value: 7 }, null);
  assert.strictEqual(await eventually("peer.noted"), 7, "a notification takes effect");

  const batch = await client.request([
    client.request("record.set", { name: "peer.b", value: 1 }, undefined, false),
    client.request("record.get", { name: "peer.b" }, undefined, false),
    client.request("record.get", { name: "peer.none" }, undefined, false),
    client.request("record.set", { name: "peer.c", value: 1 }, null, false),
  ]);
  assert.strictEqual(batch.length, 3, "a batch is answered without its notifications");
  assert.strictEqual(batch.filter((answer) => answer.error).length, 1);

  const discovered = await client.request("rpc.discover", {});
  assert.ok(discovered.result.methods.some((method) => method.name === "record.query"));
  console.log("jayson: calls, errors, batch, notifications, rpc.discover: ok");
}

// Another connection than the notification's: its turn may come first.
async function eventually(name) {
  for (;;) {
    const answer = await client.request("record.get", { name });
    if (answer.result) return answer.result.value;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

setTimeout(() => {
  console.error("no end within 20 s");
  process.exit(1);
}, 20_000).unref();

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
