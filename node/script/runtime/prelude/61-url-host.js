// Hosts of URLs: names, IPv4, IPv6, and Punycode for names beyond ASCII (RFC 3492, without the mapping tables of UTS 46:
// letters are lowered and normalised).
(function (host, library) {
  const invalid = () => {
    throw new TypeError('Invalid URL');
  };

  const punycode = (label) => {
    const points = Array.from(label, (letter) => letter.codePointAt(0));
    let out = points.filter((point) => point < 128).map((point) => String.fromCharCode(point)).join('');
    const basic = out.length;
    let handled = basic;
    if (basic > 0) out += '-';
    const digit = (value) => String.fromCharCode(value < 26 ? value + 97 : value + 22);
    let [next, delta, bias] = [128, 0, 72];
    while (handled < points.length) {
      const least = Math.min(...points.filter((point) => point >= next));
      delta += (least - next) * (handled + 1);
      next = least;
      for (const point of points) {
        if (point < next) delta += 1;
        if (point !== next) continue;
        let rest = delta;
        for (let base = 36; ; base += 36) {
          const threshold = Math.min(Math.max(base - bias, 1), 26);
          if (rest < threshold) break;
          out += digit(threshold + ((rest - threshold) % (36 - threshold)));
          rest = Math.floor((rest - threshold) / (36 - threshold));
        }
        out += digit(rest);
        let scaled = handled === basic ? Math.floor(delta / 700) : delta >> 1;
        scaled += Math.floor(scaled / (handled + 1));
        let steps = 0;
        for (; scaled > 455; steps += 36) scaled = Math.floor(scaled / 35);
        bias = steps + Math.floor((36 * scaled) / (scaled + 38));
        delta = 0;
        handled += 1;
      }
      delta += 1;
      next += 1;
    }
    return out;
  };

  const toAscii = (name) => {
    const lowered = name.normalize('NFKC').toLowerCase().normalize('NFC').replaceAll('\u00ad', '').replace(/[\u3002\uff0e\uff61]/g, '.');
    const labels = lowered.split('.').map((label) => (/^[\x00-\x7f]*$/.test(label) ? label : `xn--${punycode(label)}`));
    return labels.join('.');
  };

  const number = (part) => {
    if (part === '') return NaN;
    if (/^0x[0-9a-f]*$/i.test(part)) return part.length === 2 ? 0 : Number.parseInt(part.slice(2), 16);
    if (/^0[0-7]+$/.test(part)) return Number.parseInt(part, 8);
    return /^\d+$/.test(part) && !/^0\d/.test(part) ? Number.parseInt(part, 10) : NaN;
  };

  const ipv4 = (name) => {
    const parts = name.split('.');
    if (parts.length > 1 && parts.at(-1) === '') parts.pop();
    const last = parts.at(-1);
    if (!/^\d+$/.test(last) && Number.isNaN(number(last))) return null;
    if (parts.length > 4) invalid();
    const numbers = parts.map(number);
    if (numbers.some(Number.isNaN)) invalid();
    const tail = numbers.pop();
    if (numbers.some((value) => value > 255) || tail >= 256 ** (4 - numbers.length)) invalid();
    let address = tail;
    numbers.forEach((value, at) => (address += value * 256 ** (3 - at)));
    return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
  };

  const ipv6 = (text) => {
    const halves = text.split('::');
    if (halves.length > 2) invalid();
    const read = (half) => {
      if (half === '') return [];
      const parts = half.split(':');
      const last = parts.at(-1);
      if (last.includes('.')) {
        if (!/^(\d{1,3}\.){3}\d{1,3}$/.test(last)) invalid();
        const bytes = last.split('.').map(Number);
        if (bytes.some((byte, at) => byte > 255 || String(byte) !== last.split('.')[at])) invalid();
        parts.splice(-1, 1, ((bytes[0] << 8) | bytes[1]).toString(16), ((bytes[2] << 8) | bytes[3]).toString(16));
      }
      if (parts.some((part) => !/^[0-9a-f]{1,4}$/i.test(part))) invalid();
      return parts.map((part) => Number.parseInt(part, 16));
    };
    const [head, tail] = halves.map(read);
    const missing = 8 - head.length - (tail?.length ?? 0);
    if (tail ? missing < 1 : missing !== 0) invalid();
    const pieces = tail ? [...head, ...Array(missing).fill(0), ...tail] : head;
    let [start, length] = [-1, 1];
    for (let at = 0; at < 8; at += 1) {
      let end = at;
      while (end < 8 && pieces[end] === 0) end += 1;
      if (end - at > length) [start, length] = [at, end - at];
      at = Math.max(at, end - 1);
    }
    const hex = (list) => list.map((piece) => piece.toString(16)).join(':');
    return start < 0 ? hex(pieces) : `${hex(pieces.slice(0, start))}::${hex(pieces.slice(start + length))}`;
  };

  library.parseHost = (text, isSpecial) => {
    if (text.startsWith('[')) {
      if (!text.endsWith(']')) invalid();
      return `[${ipv6(text.slice(1, -1))}]`;
    }
    if (!isSpecial) {
      if (/[\0\t\n\r #/:<>?@[\\\]^|]/.test(text)) invalid();
      return library.percentEncode(text, '');
    }
    const decoded = new TextDecoder('utf-8', { ignoreBOM: true }).decode(library.percentDecode(text));
    const name = toAscii(decoded);
    if (name === '' || /[\0-\x20"#%/:<>?@[\\\]^`{|}\x7f]/.test(name)) invalid();
    return ipv4(name) ?? name;
  };
});
