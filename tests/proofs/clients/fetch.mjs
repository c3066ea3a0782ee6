// node's fetch. Arguments: the server's URL, a body. Prints name, status and body of each answer.
import { gzipSync } from "node:zlib";

const [url, body] = process.argv.slice(2);
const infer = `${url}/v2/models/sim/infer`;
const show = async (name, answer) =>
  console.log(`${name}\t${answer.status}\t${await answer.text()}`);

await show("first", await fetch(infer, { method: "POST", body }));
const stream = new ReadableStream({
  start(controller) {
    for (const piece of body) controller.enqueue(new TextEncoder().encode(piece));
    controller.close();
  },
});
await show("chunked", await fetch(infer, { method: "POST", body: stream, duplex: "half" }));
const headers = { "Content-Encoding": "gzip" };
await show("gzip", await fetch(infer, { method: "POST", body: gzipSync(body), headers }));
await show("head", await fetch(`${url}/v2/health/ready`, { method: "HEAD" }));
const many = Array.from({ length: 50 }, () => fetch(infer, { method: "POST", body }));
for (const answer of await Promise.all(many)) await show("many", answer);
