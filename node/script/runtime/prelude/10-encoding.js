// TextEncoder and TextDecoder (WHATWG Encoding): UTF-8, UTF-16LE and Latin-1, which web pages call windows-1252.
(function (host, library) {
  const labels = {
    'utf-8': 'utf-8', utf8: 'utf-8', 'unicode-1-1-utf-8': 'utf-8',
    'utf-16le': 'utf-16le', 'utf-16': 'utf-16le', ucs2: 'utf-16le', 'ucs-2': 'utf-16le', unicode: 'utf-16le',
    'windows-1252': 'windows-1252', latin1: 'windows-1252', 'iso-8859-1': 'windows-1252', ascii: 'windows-1252',
    'us-ascii': 'windows-1252', cp1252: 'windows-1252', l1: 'windows-1252',
  };
  // What windows-1252 has at 0x80 to 0x9f.
  const upper = '\u20ac\x81\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\x8d\u017d\x8f\x90\u2018' +
    '\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\x9d\u017e\u0178';

  const bytesOf = (source) => {
    if (source === undefined) return new Uint8Array(0);
    if (source instanceof Uint8Array) return source;
    if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    if (source instanceof ArrayBuffer || source instanceof SharedArrayBuffer) return new Uint8Array(source);
    throw new TypeError('expected an ArrayBuffer or a view of one');
  };
  library.bytesOf = bytesOf;

  // Length of the UTF-8 sequence that starts with `first`, 0 if none does; and the range of its second byte.
  const shape = (first) => {
    if (first < 0x80) return [1];
    if (first >= 0xc2 && first < 0xe0) return [2, 0x80, 0xbf];
    if (first >= 0xe0 && first < 0xf0) return [3, first === 0xe0 ? 0xa0 : 0x80, first === 0xed ? 0x9f : 0xbf];
    if (first >= 0xf0 && first < 0xf5) return [4, first === 0xf0 ? 0x90 : 0x80, first === 0xf4 ? 0x8f : 0xbf];
    return [0];
  };

  // Where the first sequence that is not whole begins, if the bytes so far can be the start of one; else the length.
  const wholeLength = (bytes) => {
    for (let back = 1; back <= 3 && back <= bytes.length; back += 1) {
      const at = bytes.length - back;
      const first = bytes[at];
      if (first >= 0x80 && first < 0xc0) continue;
      const [length, low, high] = shape(first);
      const fits = length > back && (back < 2 || (bytes[at + 1] >= low && bytes[at + 1] <= high));
      return fits ? at : bytes.length;
    }
    return bytes.length;
  };

  // Decodes with a replacement character for each maximal part of an ill-formed sequence.
  const decodeLossy = (bytes) => {
    const parts = [];
    let good = 0;
    for (let at = 0; at < bytes.length;) {
      const [length, low, high] = shape(bytes[at]);
      let fit = length ? 1 : 0;
      while (fit && fit < length && at + fit < bytes.length) {
        const next = bytes[at + fit];
        if (fit === 1 ? next < low || next > high : next < 0x80 || next > 0xbf) break;
        fit += 1;
      }
      if (length && fit === length) {
        at += length;
        continue;
      }
      parts.push(host.decode(bytes.subarray(good, at)), '\ufffd');
      at += Math.max(fit, 1);
      good = at;
    }
    parts.push(host.decode(bytes.subarray(good)));
    return parts.join('');
  };

  const units = (bytes, map) => {
    const parts = [];
    for (let at = 0; at < bytes.length; at += 8192) {
      parts.push(String.fromCharCode.apply(null, Array.from(bytes.subarray(at, at + 8192), map)));
    }
    return parts.join('');
  };

  class TextEncoder {
    get encoding() {
      return 'utf-8';
    }

    encode(text = '') {
      return host.encode(String(text).toWellFormed());
    }

    encodeInto(text, target) {
      let read = 0;
      let written = 0;
      for (const letter of String(text).toWellFormed()) {
        const bytes = host.encode(letter);
        if (written + bytes.length > target.length) break;
        target.set(bytes, written);
        read += letter.length;
        written += bytes.length;
      }
      return { read, written };
    }
  }

  class TextDecoder {
    #encoding;
    #fatal;
    #ignoreBOM;
    #kept = new Uint8Array(0);
    #isStarted = false;

    constructor(label = 'utf-8', options = {}) {
      this.#encoding = labels[String(label).trim().toLowerCase()];
      if (!this.#encoding) throw new RangeError(`the encoding '${label}' is not supported; utf-8, utf-16le and latin1 are`);
      this.#fatal = Boolean(options?.fatal);
      this.#ignoreBOM = Boolean(options?.ignoreBOM);
    }

    get encoding() {
      return this.#encoding;
    }

    get fatal() {
      return this.#fatal;
    }

    get ignoreBOM() {
      return this.#ignoreBOM;
    }

    decode(source, options = {}) {
      const isLast = !options?.stream;
      let bytes = bytesOf(source);
      if (this.#kept.length > 0) {
        const joined = new Uint8Array(this.#kept.length + bytes.length);
        joined.set(this.#kept);
        joined.set(bytes, this.#kept.length);
        bytes = joined;
      }
      const whole = isLast ? bytes.length : this.#wholeLength(bytes);
      this.#kept = bytes.slice(whole);
      let text = this.#text(bytes.subarray(0, whole));
      if (!this.#isStarted && !this.#ignoreBOM && this.#encoding !== 'windows-1252' && text.startsWith('\ufeff')) {
        text = text.slice(1);
      }
      this.#isStarted = !isLast && (this.#isStarted || whole > 0);
      return text;
    }

    #wholeLength(bytes) {
      if (this.#encoding === 'utf-8') return wholeLength(bytes);
      return this.#encoding === 'utf-16le' ? bytes.length & ~1 : bytes.length;
    }

    #text(bytes) {
      if (this.#encoding === 'windows-1252') {
        return units(bytes, (byte) => (byte >= 0x80 && byte < 0xa0 ? upper.charCodeAt(byte - 0x80) : byte));
      }
      if (this.#encoding === 'utf-16le') {
        const even = bytes.slice(0, bytes.length & ~1);
        let text = units(new Uint16Array(even.buffer), (unit) => unit);
        if (even.length !== bytes.length) text += '\ufffd';
        if (this.#fatal && (even.length !== bytes.length || !text.isWellFormed())) this.#refuse();
        return text.toWellFormed();
      }
      const text = host.decode(bytes);
      if (text === undefined && this.#fatal) this.#refuse();
      return text ?? decodeLossy(bytes);
    }

    #refuse() {
      this.#kept = new Uint8Array(0);
      this.#isStarted = false;
      throw new TypeError(`the encoded data was not valid ${this.#encoding}`);
    }
  }

  library.define({ TextEncoder, TextDecoder });
});
