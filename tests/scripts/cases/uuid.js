import { NIL, parse, stringify, v1, v4, v5, v7, validate, version } from 'uuid';

export default () => {
  const random = Array.from({ length: 100 }, () => v4());
  return {
    isEachValid: random.every((id) => validate(id) && version(id) === 4),
    different: new Set(random).size,
    named: v5('skein', v5.URL),
    fixed: v7({ msecs: 1700000000000, seq: 7, random: new Uint8Array(16) }),
    versions: [v1(), v7()].map(version),
    bytes: Array.from(parse('6ba7b810-9dad-11d1-80b4-00c04fd430c8')),
    text: stringify(Uint8Array.from({ length: 16 }, (_, at) => at * 16)),
    nil: NIL,
  };
};
