// Submits a run to dtf and follows it to its end. No code of dtf is used: subjects and JSON are the interface.
//
//   npm install
//   NATS_URL=nats://127.0.0.1:4222 NATS_USER=... NATS_PASSWORD=... node submit.mjs ci build-42 pytest -q
//
// Arguments: publisher, key, command. The same key twice is the same run. Environment: DTF_POOL (main).
// Exit status: 0 passed, 1 anything else, 2 wrong use.
import { createHash, randomUUID } from "node:crypto";
import { connect } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** The run a publisher submits under a key: 26 characters of base32(SHA-256("publisher/key")). */
export function runId(publisher, key) {
  const digest = createHash("sha256").update(`${publisher}/${key}`).digest();
  const bits = [...digest].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return bits.slice(0, 130).match(/.{5}/g).map((five) => BASE32[parseInt(five, 2)]).join("");
}

async function main(publisher, key, command) {
  const pool = process.env.DTF_POOL ?? "main";
  const url = new URL(process.env.NATS_URL ?? "nats://127.0.0.1:4222");
  const connection = await connect({
    servers: url.host,
    user: decodeURIComponent(url.username) || process.env.NATS_USER,
    pass: decodeURIComponent(url.password) || process.env.NATS_PASSWORD,
  });
  const run = runId(publisher, key);
  const events = [
    { type: "RunSubmitted", key, name: command.join(" ").slice(0, 256) },
    { type: "TasksSubmitted", part: 0, group: "task", spec: { command } },
    { type: "RunSealed", parts: 1, tasks: 1 },
  ];
  // The acknowledgement says the log has it, on disk. A time-out is no "no": publish again under the same id.
  const js = jetstream(connection);
  const ack = await js.publish(`dtf.${pool}.run.${publisher}.${run}`, JSON.stringify(events), {
    msgID: randomUUID(),
  });
  console.error(`submitted run ${run} at ${ack.stream} ${ack.seq}`);

  const settled = await follow(js, pool, run);
  console.log(JSON.stringify(settled));
  await connection.close();
  return settled.verdict === "passed" ? 0 : 1;
}

/** The run's last ruling. An ordered consumer reads from the beginning and survives a reconnect. */
async function follow(js, pool, run) {
  const consumer = await js.consumers.get(`DTF_${pool}_LOG`, {
    filter_subjects: [`dtf.${pool}.ruling.${run}`],
  });
  for await (const message of await consumer.consume()) {
    for (const event of [message.json()].flat()) {
      if (event.type === "TaskSettled") console.error(`${event.task}: ${event.verdict}`);
      if (event.type === "SubmissionRejected") console.error(`refused: ${event.reason}`);
      if (event.type === "RunSettled" || event.fatal) return event;
    }
  }
  throw new Error(`the log ended before run ${run} did`);
}

if (process.argv.length < 5) {
  console.error("usage: node submit.mjs PUBLISHER KEY COMMAND [ARGUMENT...]");
  process.exit(2);
}
const [publisher, key, ...command] = process.argv.slice(2);
process.exit(await main(publisher, key, command));
