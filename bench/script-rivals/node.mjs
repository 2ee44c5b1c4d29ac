// The handler of bench/guests/js/json.js behind Node's http server. Prints its port when it serves.
import { createServer } from "node:http";
import handler from "./json.mjs";

const server = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", async () => {
    const answer = JSON.stringify(await handler(JSON.parse(Buffer.concat(parts))));
    response.setHeader("content-type", "application/json");
    response.end(answer);
  });
});
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => console.log(server.address().port));
