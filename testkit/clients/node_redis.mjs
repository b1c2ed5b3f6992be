// node-redis as its users use it, against the address given: HOST PORT DATABASE. A line a step; restarts are asked for on stdout.
import assert from "node:assert/strict";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { createRequire } from "node:module";
// From the folder that the test installed it in.
const { createClient, defineScript, WatchError } = createRequire(process.cwd() + "/")("redis");

const [host, port, database] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const both = defineScript({
  SCRIPT: "return {KEYS[1], ARGV[1], redis.call('GET', KEYS[1])}",
  NUMBER_OF_KEYS: 1,
  parseCommand(parser, key, argument) {
    parser.pushKey(key);
    parser.push(argument);
  },
  transformReply: (reply) => reply,
});

async function run(RESP) {
  const done = (step) => console.log("ok", `resp${RESP} ${step}`);
  const connect = async () => {
    const client = createClient({ socket: { host, port }, database, name: "node-redis", RESP, scripts: { both } });
    client.on("error", () => {}); // it reconnects
    return client.connect();
  };
  const client = await connect();
  await client.flushDb();
  assert.equal(await client.ping(), "PONG");
  assert.equal(await client.clientGetName(), "node-redis");
  await client.set("\0\r\n", "\r\n\0");
  assert.equal(await client.get("\0\r\n"), "\r\n\0");
  assert.equal(await client.get("none"), null);
  await client.hSet("h", { f: 1, g: 2 });
  assert.deepEqual({ ...(await client.hGetAll("h")) }, { f: "1", g: "2" });
  await client.zAdd("z", [{ score: 1, value: "a" }, { score: 2.5, value: "b" }]);
  assert.deepEqual(await client.zRangeWithScores("z", 0, -1), [{ score: 1, value: "a" }, { score: 2.5, value: "b" }]);
  done("commands");

  const big = "x".repeat(5 << 20);
  await client.set("big", big);
  assert.equal(await client.get("big"), big);
  done("a value of 5 MiB");

  const pairs = await Promise.all(Array.from({ length: 10000 }, (_, number) => Promise.all([
    client.set(`k${number}`, number.toString()), client.get(`k${number}`),
  ])));
  pairs.forEach((pair, number) => assert.deepEqual(pair, ["OK", String(number)]));
  done("a pipeline of 20,000");

  const other = await connect();
  await client.watch("counter");
  await other.set("counter", "7");
  await assert.rejects(client.multi().set("counter", "1").exec(), WatchError);
  await client.watch("counter");
  assert.deepEqual(await client.multi().incr("counter").get("counter").exec(), [8, "8"]);
  done("a watched transaction that loses, and one that wins");

  const listener = await connect();
  const messages = [];
  await listener.subscribe("news", (message, channel) => messages.push([message, channel]));
  await listener.pSubscribe("new*", (message, channel) => messages.push([message, channel]));
  assert.equal(await client.publish("news", "hello"), 2);
  for (const deadline = Date.now() + 10000; messages.length < 2; await sleep(10)) assert.ok(Date.now() < deadline);
  assert.deepEqual(messages, [["hello", "news"], ["hello", "news"]]);
  await listener.unsubscribe();
  await listener.pUnsubscribe();
  // Under RESP2 this client gives bytes for a while after a subscription, from Redis itself too.
  assert.equal(String(await listener.get("k1")), "1");
  await listener.close();
  done("channels");

  const waiting = await connect();
  const popped = waiting.blPop("list", 10);
  await sleep(200);
  await client.rPush("list", "element");
  assert.deepEqual({ ...(await popped) }, { key: "list", element: "element" });
  assert.equal(await waiting.blPop("list", 0.05), null);
  done("a blocking pop");

  await client.scriptFlush();
  assert.deepEqual(await client.both("k1", "a"), ["k1", "a", "1"]);
  assert.deepEqual(await client.both("k2", "b"), ["k2", "b", "2"]);
  done("a script by its digest");

  await assert.rejects(client.lPush("k1", "x"), /WRONGTYPE/);
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
  for (const left of [client, other, waiting]) left.destroy();
}

await run(2);
await run(3);
process.exit(0);
