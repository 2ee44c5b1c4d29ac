// URLSearchParams (WHATWG URL), and percent-encoding.
(function (host, library) {
  const hex = Array.from({ length: 256 }, (_, byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`);

  // Encodes as UTF-8 each byte that is not printable ASCII or is in `set`.
  library.percentEncode = (text, set) => {
    let out = '';
    for (const letter of text) {
      const code = letter.codePointAt(0);
      if (code > 0x1f && code < 0x7f && !set.includes(letter)) out += letter;
      else for (const byte of host.encode(letter.toWellFormed())) out += hex[byte];
    }
    return out;
  };

  // The bytes of text whose percent sequences are decoded.
  library.percentDecode = (text) => {
    const bytes = host.encode(text.toWellFormed());
    const out = new Uint8Array(bytes.length);
    let length = 0;
    for (let at = 0; at < bytes.length; at += 1) {
      const pair = bytes[at] === 0x25 ? String.fromCharCode(bytes[at + 1], bytes[at + 2]) : '';
      if (/^[0-9a-f]{2}$/i.test(pair)) {
        out[length] = Number.parseInt(pair, 16);
        at += 2;
      } else {
        out[length] = bytes[at];
      }
      length += 1;
    }
    return out.subarray(0, length);
  };

  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const decodeForm = (text) => decoder.decode(library.percentDecode(text.replaceAll('+', ' ')));
  const FORM = '!"#$%&\'()+,/:;<=>?@[\\]^`{|}~';
  const encodeForm = (text) => library.percentEncode(text, FORM).replaceAll(' ', '+');
  const parse = (text) =>
    text
      .split('&')
      .filter((part) => part !== '')
      .map((part) => {
        const at = part.indexOf('=');
        return at < 0 ? [decodeForm(part), ''] : [decodeForm(part.slice(0, at)), decodeForm(part.slice(at + 1))];
      });
  const text = (value) => String(value).toWellFormed();

  let setPairs;

  class URLSearchParams {
    #pairs = [];
    #changed = null;

    constructor(init = '') {
      if (typeof init === 'object' && init !== null) {
        if (typeof init[Symbol.iterator] === 'function') {
          for (const pair of init) {
            const items = [...pair];
            if (items.length !== 2) throw new TypeError('each query pair must be a name and a value');
            this.#pairs.push(items.map(text));
          }
        } else {
          for (const key of Object.keys(init)) this.#pairs.push([text(key), text(init[key])]);
        }
      } else {
        const query = text(init);
        this.#pairs = parse(query.startsWith('?') ? query.slice(1) : query);
      }
    }

    static {
      // A URL's own parameters change with it and it with them.
      setPairs = (params, query, changed) => {
        params.#pairs = parse(query);
        params.#changed = changed ?? params.#changed;
      };
    }

    get size() {
      return this.#pairs.length;
    }

    append(name, value) {
      this.#pairs.push([text(name), text(value)]);
      this.#changed?.();
    }

    delete(name, value) {
      this.#pairs = this.#pairs.filter((pair) => pair[0] !== text(name) || (value !== undefined && pair[1] !== text(value)));
      this.#changed?.();
    }

    get(name) {
      return this.#pairs.find((pair) => pair[0] === text(name))?.[1] ?? null;
    }

    getAll(name) {
      return this.#pairs.filter((pair) => pair[0] === text(name)).map((pair) => pair[1]);
    }

    has(name, value) {
      return this.#pairs.some((pair) => pair[0] === text(name) && (value === undefined || pair[1] === text(value)));
    }

    set(name, value) {
      const first = this.#pairs.find((pair) => pair[0] === text(name));
      if (first) {
        first[1] = text(value);
        this.#pairs = this.#pairs.filter((pair) => pair === first || pair[0] !== text(name));
      } else {
        this.#pairs.push([text(name), text(value)]);
      }
      this.#changed?.();
    }

    sort() {
      this.#pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
      this.#changed?.();
    }

    forEach(callback, self) {
      for (const [name, value] of this) callback.call(self, value, name, this);
    }

    *entries() {
      for (let at = 0; at < this.#pairs.length; at += 1) yield [...this.#pairs[at]];
    }

    *keys() {
      for (const [name] of this.entries()) yield name;
    }

    *values() {
      for (const [, value] of this.entries()) yield value;
    }

    toString() {
      return this.#pairs.map(([name, value]) => `${encodeForm(name)}=${encodeForm(value)}`).join('&');
    }
  }
  URLSearchParams.prototype[Symbol.iterator] = URLSearchParams.prototype.entries;

  library.setPairs = (...all) => setPairs(...all);
  library.define({ URLSearchParams });
});
