// BullMQ as its users use it, against the address given: HOST PORT DATABASE. A line a step. In a cluster all keys of a queue are of one
// slot (`prefix`), as its manual says.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
// From the folder that the test installed it in.
const { FlowProducer, Queue, QueueEvents, Worker } = createRequire(process.cwd() + "/")("bullmq");

const [host, port, db] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const options = { connection: { host, port, db, maxRetriesPerRequest: null }, prefix: "{bull}" };
const done = (step) => console.log("ok", step);

const queue = new Queue("numbers", options);
const events = new QueueEvents("numbers", options);
await events.waitUntilReady();
let attempts = 0;
const work = async (job) => {
  if (job.name === "stubborn" && ++attempts < 3) throw new Error("not yet");
  if (job.name === "parent") return Object.values(await job.getChildrenValues()).reduce((one, two) => one + two, 0);
  return job.data.number * 2;
};
const worker = new Worker("numbers", work, { ...options, concurrency: 5 });
worker.on("error", (error) => console.error(error));

const one = await queue.add("double", { number: 21 });
assert.equal(await one.waitUntilFinished(events, 30000), 42);
done("a job");

const jobs = await queue.addBulk(Array.from({ length: 200 }, (_, number) => ({ name: "double", data: { number } })));
assert.deepEqual(await Promise.all(jobs.map((job) => job.waitUntilFinished(events, 60000))), jobs.map((_, number) => number * 2));
assert.equal(await queue.getCompletedCount(), 201);
done("many");

const late = await queue.add("double", { number: 1 }, { delay: 500, priority: 2 });
assert.equal(await late.waitUntilFinished(events, 30000), 2);
const stubborn = await queue.add("stubborn", { number: 3 }, { attempts: 5, backoff: { type: "fixed", delay: 100 } });
assert.equal(await stubborn.waitUntilFinished(events, 30000), 6);
done("a job that waits, and one that is tried again");

const flow = await new FlowProducer(options).add({
  name: "parent", queueName: "numbers", data: {},
  children: [1, 2, 3].map((number) => ({ name: "child", queueName: "numbers", data: { number } })),
});
assert.equal(await flow.job.waitUntilFinished(events, 30000), 12);
done("a job with children");
await queue.obliterate({ force: true });
process.exit(0);
