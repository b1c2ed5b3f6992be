// ioredis as a client of a cluster, against the address given: HOST PORT. A line a step; restarts are asked for on stdout.
import assert from "node:assert/strict";
import { once } from "node:events";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { createRequire } from "node:module";
// From the folder that the test installed it in.
const Redis = createRequire(process.cwd() + "/")("ioredis");

const [host, port] = [process.argv[2], Number(process.argv[3])];
const done = (step) => console.log("ok", step);
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const connect = () => {
  const client = new Redis.Cluster([{ host, port }]);
  client.on("error", () => {}); // it reconnects
  return client;
};

const client = connect();
await client.flushdb();
assert.deepEqual(client.nodes().map((node) => node.options.port), [port]);
assert.equal(await client.cluster("KEYSLOT", "a"), 15495);
await client.hset("h", { f: 1, g: 2 });
assert.deepEqual({ ...(await client.hgetall("h")) }, { f: "1", g: "2" });
await Promise.all(["a", "b", "c"].map((key) => client.set(key, key)));
assert.deepEqual(await Promise.all(["a", "b", "c"].map((key) => client.get(key))), ["a", "b", "c"]);
done("commands");

const pipeline = client.pipeline();
for (let number = 0; number < 1000; number++) pipeline.set(`{k}${number}`, number).get(`{k}${number}`);
const replies = await pipeline.exec();
replies.forEach(([error, reply], at) => assert.ok(!error && (at % 2 === 0 ? reply === "OK" : reply === String((at - 1) / 2))));
assert.deepEqual(await client.multi().set("counter", 7).incr("counter").exec(), [[null, "OK"], [null, 8]]);
done("a pipeline, and a transaction");

const listener = connect();
assert.equal(await listener.subscribe("news"), 1);
const heard = once(listener, "message");
assert.equal(await client.publish("news", "hello"), 1);
assert.deepEqual(await heard, ["news", "hello"]);
listener.disconnect();
await client.rpush("list", "element");
assert.deepEqual(await client.blpop("list", 10), ["list", "element"]);
client.defineCommand("both", { numberOfKeys: 1, lua: "return {KEYS[1], ARGV[1], redis.call('GET', KEYS[1])}" });
assert.deepEqual(await client.both("a", "x"), ["a", "x", "a"]);
done("channels, a blocking pop, a script");

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
process.exit(0);
