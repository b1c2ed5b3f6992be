// ioredis as its users use it, against the address given: HOST PORT DATABASE. A line a step; restarts are asked for on stdout.
import assert from "node:assert/strict";
import { once } from "node:events";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { createRequire } from "node:module";
// From the folder that the test installed it in.
const Redis = createRequire(process.cwd() + "/")("ioredis");

const [host, port, db] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const done = (step) => console.log("ok", step);
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const connect = () => {
  const client = new Redis({ host, port, db, connectionName: "ioredis" });
  client.on("error", () => {}); // it reconnects
  return client;
};

const client = connect();
await client.flushdb();
assert.equal(await client.ping(), "PONG");
assert.equal(await client.client("GETNAME"), "ioredis");
await client.set(Buffer.from([0, 13, 10, 255]), Buffer.from([13, 10, 0]));
assert.deepEqual(await client.getBuffer(Buffer.from([0, 13, 10, 255])), Buffer.from([13, 10, 0]));
assert.equal(await client.get("none"), null);
await client.hset("h", { f: 1, g: 2 });
assert.deepEqual({ ...(await client.hgetall("h")) }, { f: "1", g: "2" });
done("commands");

const big = "x".repeat(5 << 20);
await client.set("big", big);
assert.equal(await client.get("big"), big);
done("a value of 5 MiB");

const pipeline = client.pipeline();
for (let number = 0; number < 10000; number++) pipeline.set(`k${number}`, number).get(`k${number}`);
const replies = await pipeline.exec();
replies.forEach(([error, reply], at) => assert.ok(!error && (at % 2 === 0 ? reply === "OK" : reply === String((at - 1) / 2))));
done("a pipeline of 20,000");

const other = connect();
await client.watch("counter");
await other.set("counter", 7);
assert.equal(await client.multi().set("counter", 1).exec(), null);
await client.watch("counter");
assert.deepEqual(await client.multi().incr("counter").get("counter").exec(), [[null, 8], [null, "8"]]);
done("a watched transaction that loses, and one that wins");

const listener = connect();
assert.equal(await listener.subscribe("news"), 1);
assert.equal(await listener.psubscribe("new*"), 2);
const heard = Promise.all([once(listener, "message"), once(listener, "pmessage")]);
assert.equal(await client.publish("news", "hello"), 2);
assert.deepEqual(await heard, [["news", "hello"], ["new*", "news", "hello"]]);
await listener.quit();
done("channels");

const waiting = connect();
const popped = waiting.blpop("list", 10);
await sleep(200);
await client.rpush("list", "element");
assert.deepEqual(await popped, ["list", "element"]);
assert.equal(await waiting.blpop("list", 0.05), null);
done("a blocking pop");

await client.script("FLUSH");
client.defineCommand("both", { numberOfKeys: 1, lua: "return {KEYS[1], ARGV[1], redis.call('GET', KEYS[1])}" });
assert.deepEqual(await client.both("k1", "a"), ["k1", "a", "1"]);
assert.deepEqual(await client.both("k2", "b"), ["k2", "b", "2"]);
done("a script by its digest");

await assert.rejects(client.lpush("k1", "x"), /^ReplyError: WRONGTYPE/);
done("errors of Redis");

console.log("restart");
assert.equal((await lines.next()).value, "restarted");
for (const deadline = Date.now() + 20000; ; await sleep(50)) {
  try {
    await client.set("after", "restart");
    assert.equal(await client.get("after"), "restart");
    break;
  } catch (error) {
    assert.ok(Date.now() < deadline, error);
  }
}
done("a restart of Redis");
process.exit(0);
