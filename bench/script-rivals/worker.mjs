// The handler of bench/guests/js/json.js as a worker.
import handler from "json.mjs";

export default {
  async fetch(request) {
    const answer = JSON.stringify(await handler(await request.json()));
    return new Response(answer, { headers: { "content-type": "application/json" } });
  },
};
