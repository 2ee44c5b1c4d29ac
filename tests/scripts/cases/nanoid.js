import { customAlphabet, customRandom, nanoid, urlAlphabet } from 'nanoid';

export default () => {
  const ids = Array.from({ length: 200 }, () => nanoid());
  let state = 1;
  const counted = customRandom('abcdef', 12, (size) => Uint8Array.from({ length: size }, () => (state = (state * 75 + 74) % 65537)));
  return {
    alphabet: urlAlphabet,
    isEachWellFormed: ids.every((id) => /^[\w-]{21}$/.test(id)),
    different: new Set(ids).size,
    lengths: [1, 5, 64].map((length) => nanoid(length).length),
    custom: /^[01]{10}$/.test(customAlphabet('01', 10)()),
    counted: [counted(), counted()],
  };
};
