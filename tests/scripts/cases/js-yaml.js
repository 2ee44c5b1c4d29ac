import { dump, load, loadAll } from 'js-yaml';

const text = `
name: &n "böat"
same: *n
list: [1, 2.5, 0x1f, 1e3, ~, true, .inf]
when: 2024-02-29T12:00:00Z
folded: >
  one
  two

literal: |
  three
   four
? complex key
: {a: 1, b: [c, d]}
`;

export default () => {
  const value = load(text);
  let error;
  try {
    load('a: [1, 2\nb: }');
  } catch (thrown) {
    error = { name: thrown.name, message: thrown.message };
  }
  return { value, again: dump(value), sorted: dump({ b: 1, a: [{ c: 'x: y' }, 'multi\nline'] }, { sortKeys: true }), documents: [...loadAll('--- 1\n--- {a: 2}\n')], error };
};
