import { parse, tokenizer } from 'acorn';

const text = 'class A extends B { #x = 1n; async *f({ a = 2, ...rest }) { yield* await import("x"); } }\nlabel: for (const [k] of m?.entries() ?? []) continue label;';

export default () => {
  const tree = parse(text, { ecmaVersion: 2024, sourceType: 'module', locations: true });
  const kinds = [];
  JSON.stringify(tree, (key, value) => {
    if (value && typeof value.type === 'string') kinds.push(`${value.type}@${value.start}`);
    return typeof value === 'bigint' ? `${value}n` : value;
  });
  const tokens = Array.from(tokenizer('a => /[/]\\d+/gu.test(`x${a}y`)', { ecmaVersion: 2024 }), (token) => token.type.label);
  let error;
  try {
    parse('let a = ;\n', { ecmaVersion: 2024 });
  } catch (thrown) {
    error = { name: thrown.name, message: thrown.message, loc: thrown.loc, pos: thrown.pos };
  }
  return { kinds, tokens, error };
};
