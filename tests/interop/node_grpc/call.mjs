// Makes the calls that it reads from standard input, one JSON object a line, and prints what became of each.
//
// Usage: node call.mjs ADDRESS NAME ROOTS CHAIN KEY KEEPALIVE_SECONDS. It knows no messages: requests and answers are bytes.
// tests/support/foreign_clients.py says what the objects hold.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import grpc from "@grpc/grpc-js";

const [address, name, roots, chain, key, alive] = process.argv.slice(2);
const credentials = grpc.credentials.createSsl(readFileSync(roots), readFileSync(key), readFileSync(chain));
const options = {
  "grpc.ssl_target_name_override": name,
  "grpc.default_authority": name,
  "grpc.use_local_subchannel_pool": 1,
  "grpc.max_receive_message_length": 64 * 1024 * 1024,
  ...(Number(alive) && { "grpc.keepalive_time_ms": 1000 * alive, "grpc.keepalive_timeout_ms": 1000 }),
};
const GZIP = 2;
const plain = new grpc.Client(address, credentials, options);
const compressing = new grpc.Client(address, credentials, { ...options, "grpc.default_compression_algorithm": GZIP });

const same = (bytes) => bytes;

function begun(wanted) {
  const metadata = new grpc.Metadata();
  for (const [field, value] of Object.entries(wanted.metadata ?? {})) metadata.set(field, value);
  const deadline = wanted.timeout ? Date.now() + 1000 * wanted.timeout : Infinity;
  const client = wanted.gzip ? compressing : plain;
  return client.makeBidiStreamRequest(wanted.method, same, same, metadata, { deadline });
}

function call(wanted) {
  return new Promise((resolve) => {
    const stream = begun(wanted);
    const answers = [];
    let found = {};
    stream.on("data", async (answer) => {
      answers.push(answer.toString("base64"));
      if (answers.length === wanted.take) {
        stream.pause();
        await sleep(1000 * (wanted.rest ?? 0));
        found = { code: 0, message: "" };
        stream.cancel();
      }
    });
    stream.on("error", () => {}); // comes as a status as well
    stream.on("status", ({ code, details, metadata }) => {
      const [text] = metadata.get("x-a");
      const [binary] = metadata.get("x-detail-bin");
      const [status] = metadata.get("grpc-status-details-bin");
      const told = { code, message: details, text, binary: binary?.toString("base64"), status: status?.toString("base64") };
      resolve({ answers, ...told, ...found });
    });
    for (const message of wanted.messages) stream.write(Buffer.from(message, "base64"));
    stream.end();
    if (wanted.cancel) setTimeout(() => stream.cancel(), 1000 * wanted.cancel);
  });
}

/** Begins calls and cancels each at once. */
async function flooded(wanted) {
  for (let count = 0; count < wanted.flood; count += 1) {
    const stream = begun(wanted);
    stream.on("error", () => {});
    stream.write(Buffer.from(wanted.messages[0], "base64"));
    await new Promise(setImmediate); // else it is cancelled before anything is sent
    stream.cancel();
  }
  return {};
}

/** Calls without a pause in several lanes, and counts what the calls end with. */
async function loaded(wanted) {
  const tally = {};
  const until = Date.now() + 1000 * wanted.seconds;
  const lane = async () => {
    while (Date.now() < until) {
      const { code, message } = await call(wanted);
      const told = `${code} ${code ? message : ""}`;
      tally[told] = (tally[told] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: wanted.lanes }, lane));
  return { tally };
}

for await (const line of createInterface({ input: process.stdin })) {
  const wanted = JSON.parse(line);
  const found = await (wanted.flood ? flooded(wanted) : wanted.lanes ? loaded(wanted) : call(wanted));
  process.stdout.write(`${JSON.stringify(found)}\n`);
}
plain.close();
compressing.close();
