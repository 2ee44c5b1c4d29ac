import _ from 'lodash';
import debounce from 'lodash/debounce.js';

const people = [
  { name: 'Ann', age: 31, tags: ['a', 'b'] },
  { name: 'Bob', age: 25, tags: ['b'] },
  { name: 'Cid', age: 31, tags: [] },
];

export default async () => {
  let count = 0;
  const late = debounce(() => (count += 1), 5);
  late();
  late();
  await new Promise((done) => setTimeout(done, 40));
  return {
    version: _.VERSION,
    grouped: _.groupBy(people, 'age'),
    sorted: _.orderBy(people, ['age', 'name'], ['desc', 'asc']).map((person) => person.name),
    chunks: _.chunk(_.range(7), 3),
    merged: _.merge({ a: { b: 1, c: [1, 2] } }, { a: { c: [3], d: new Date(0) } }),
    cloned: _.isEqual(_.cloneDeep(people), people),
    words: ['camelCase', 'kebabCase', 'snakeCase', 'startCase', 'deburr'].map((name) => _[name]('Déjà vu, HTMLParser 2go!')),
    template: _.template('<% _.each(list, (x) => { %><i><%- x %></i><% }) %>')({ list: ['<a>', 2] }),
    chain: _(people).map('tags').flatten().countBy().toPairs().sortBy(0).value(),
    path: _.get(people, '[1].tags[0]'),
    tag: [_.isPlainObject({}), _.isMap(new Map()), _.isTypedArray(new Uint8Array(1)), _.toString(-0)],
    count,
  };
};
