// Runs a case in Node.js: `node node.mjs CASE` prints its result as JSON. A result that is no value has none.
const { default: handler } = await import(new URL(process.argv[2], `file://${process.cwd()}/`));
process.stdout.write(JSON.stringify((await handler()) ?? null));
