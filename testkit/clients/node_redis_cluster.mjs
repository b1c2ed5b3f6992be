// node-redis as a client of a cluster, against the address given: HOST PORT. A line a step; restarts are asked for on stdout.
import assert from "node:assert/strict";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { createRequire } from "node:module";
// From the folder that the test installed it in.
const { createCluster } = createRequire(process.cwd() + "/")("redis");

const [host, port] = [process.argv[2], Number(process.argv[3])];
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function run(RESP) {
  const done = (step) => console.log("ok", `resp${RESP} ${step}`);
  const client = createCluster({ rootNodes: [{ socket: { host, port } }], RESP });
  client.on("error", () => {}); // it reconnects
  await client.connect();
  assert.equal(client.masters.length, 1);
  assert.equal(client.masters[0].port, port);
  await client.hSet("h", { f: 1, g: 2 });
  assert.deepEqual({ ...(await client.hGetAll("h")) }, { f: "1", g: "2" });
  const keys = Array.from({ length: 1000 }, (_, number) => `k${number}`);
  await Promise.all(keys.map((key) => client.set(key, key)));
  assert.deepEqual(await Promise.all(keys.map((key) => client.get(key))), keys);
  done("commands");

  assert.deepEqual(await client.multi().set("counter", "7").incr("counter").exec(), ["OK", 8]);
  const messages = [];
  await client.subscribe("news", (message) => messages.push(message));
  await client.sSubscribe("shard", (message) => messages.push(message));
  await client.publish("news", "hello");
  await client.sPublish("shard", "there");
  for (const deadline = Date.now() + 10000; messages.length < 2; await sleep(10)) assert.ok(Date.now() < deadline);
  assert.deepEqual(messages.sort(), ["hello", "there"]);
  await client.unsubscribe("news");
  await client.sUnsubscribe("shard");
  assert.deepEqual(await client.eval("return {KEYS[1], ARGV[1]}", { keys: ["k1"], arguments: ["x"] }), ["k1", "x"]);
  done("a transaction, channels, a script");

  console.log("restart");
  assert.equal((await lines.next()).value, "restarted");
  for (const deadline = Date.now() + 20000; ; await sleep(50)) {
    try {
      await client.set("after", "restart");
      break;
    } catch (error) {
      assert.ok(Date.now() < deadline, error);
    }
  }
  done("a restart of Redis");
  client.destroy();
}

await run(2);
await run(3);
process.exit(0);
