// Headers (WHATWG Fetch), and the form in which heads cross to the host: a line for each, `name: value`.
(function (host, library) {
  const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
  const name = (value) => {
    const text = String(value);
    if (!NAME.test(text)) throw new TypeError(`'${text}' is not a header's name`);
    return text.toLowerCase();
  };
  const value = (given) => {
    const text = String(given).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, '');
    if (/[\0\n\r]/.test(text)) throw new TypeError('a header\'s value has no line breaks');
    return text;
  };

  class Headers {
    // Name to the list of its values.
    #map = new Map();

    constructor(init) {
      if (init === undefined || init === null) return;
      if (typeof init !== 'object') throw new TypeError('headers are made of an object or of pairs');
      const pairs = typeof init[Symbol.iterator] === 'function' ? init : Object.entries(init);
      for (const pair of pairs) {
        const items = [...pair];
        if (items.length !== 2) throw new TypeError('each header must be a name and a value');
        this.append(...items);
      }
    }

    append(key, given) {
      const list = this.#map.get(name(key)) ?? [];
      list.push(value(given));
      this.#map.set(name(key), list);
    }

    delete(key) {
      this.#map.delete(name(key));
    }

    get(key) {
      return this.#map.get(name(key))?.join(', ') ?? null;
    }

    getSetCookie() {
      return [...(this.#map.get('set-cookie') ?? [])];
    }

    has(key) {
      return this.#map.has(name(key));
    }

    set(key, given) {
      this.#map.set(name(key), [value(given)]);
    }

    forEach(callback, self) {
      for (const [key, given] of this) callback.call(self, given, key, this);
    }

    *entries() {
      for (const key of [...this.#map.keys()].sort()) {
        if (key === 'set-cookie') for (const cookie of this.#map.get(key)) yield [key, cookie];
        else yield [key, this.get(key)];
      }
    }

    *keys() {
      for (const [key] of this.entries()) yield key;
    }

    *values() {
      for (const [, given] of this.entries()) yield given;
    }

    toJSON() {
      return Object.fromEntries(this);
    }
  }
  Headers.prototype[Symbol.iterator] = Headers.prototype.entries;

  library.headerLines = (headers) => Array.from(headers, ([key, given]) => `${key}: ${given}\n`).join('');
  library.readHeaders = (lines) => {
    const headers = new Headers();
    for (const line of lines) {
      const at = line.indexOf(':');
      if (at > 0 && NAME.test(line.slice(0, at))) headers.append(line.slice(0, at), line.slice(at + 1).replaceAll('\0', ''));
    }
    return headers;
  };
  library.define({ Headers });
});
