// What else the web's standards give a script: encodings, clones, events, aborts, timers, bodies.
const attempt = (run) => {
  try {
    return run();
  } catch (error) {
    return `${error.name}${typeof error.code === 'number' ? ` ${error.code}` : ''}`;
  }
};
const hex = (bytes) => Array.from(new Uint8Array(bytes.buffer ?? bytes), (byte) => byte.toString(16).padStart(2, '0')).join('');

const encodings = () => {
  const bad = [[0xff], [0xc0, 0x80], [0xe2, 0x82], [0xf0, 0x9f, 0x98], [0xed, 0xa0, 0x80], [0x61, 0xe2, 0x82, 0x62], [0xf4, 0x90, 0x80, 0x80], [0xef, 0xbb, 0xbf, 0x61], [0xf0, 0x9f, 0x41]];
  const streamed = new TextDecoder();
  const parts = [[0xf0, 0x9f], [0x98], [0x80, 0xe2], [0x82, 0xac]].map((bytes) => streamed.decode(new Uint8Array(bytes), { stream: true }));
  return {
    encoded: hex(new TextEncoder().encode('aä€😀\ud800')),
    into: new TextEncoder().encodeInto('a€😀', new Uint8Array(6)),
    lossy: bad.map((bytes) => new TextDecoder().decode(new Uint8Array(bytes))),
    fatal: bad.map((bytes) => attempt(() => new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array(bytes)))),
    bom: new TextDecoder('utf-8', { ignoreBOM: true }).decode(new Uint8Array([0xef, 0xbb, 0xbf, 0x61])).length,
    streamed: [...parts, streamed.decode()],
    wide: new TextDecoder('utf-16le').decode(new Uint8Array([0x61, 0, 0x3d, 0xd8, 0, 0xde])),
    latin: new TextDecoder('latin1').decode(new Uint8Array([0x7f, 0xe4, 0xff])),
    names: ['UTF8', 'latin1', 'utf-16'].map((label) => new TextDecoder(label).encoding),
    unknown: attempt(() => new TextDecoder('klingon')),
    base64: [btoa('\xff\x00abc'), atob(' /w Bh YmM '), attempt(() => btoa('€')), attempt(() => atob('a===')), attempt(() => atob('*'))],
    uri: [encodeURIComponent('ä/?&'), attempt(() => decodeURIComponent('%')), escape('ä€'), unescape('%u20AC')],
  };
};

const clones = () => {
  const cycle = { list: [1, , 3], date: new Date(5), expression: /a/gi, map: new Map([[{ k: 1 }, new Set([1])]]), view: new Uint16Array([1, 2]), big: 3n, boxed: Object(1) };
  cycle.self = cycle;
  const copy = structuredClone(cycle);
  const error = structuredClone(new RangeError('r', { cause: 'c' }));
  const buffer = new ArrayBuffer(4);
  const moved = structuredClone(buffer, { transfer: [buffer] });
  class Own {
    a = 1;
    get b() {
      return 2;
    }
  }
  return {
    same: [copy !== cycle, copy.self === copy, copy.date.getTime(), String(copy.expression), 1 in copy.list, copy.view.length, String(copy.big), typeof copy.boxed],
    map: [...copy.map.keys()].length,
    error: [error.name, error.message, error.cause, error instanceof RangeError],
    moved: [buffer.byteLength, moved.byteLength],
    own: [JSON.stringify(structuredClone(new Own())), structuredClone(new Own()) instanceof Own],
    refused: [() => {}, Symbol('s'), { f() {} }, new WeakMap(), Promise.resolve()].map((value) => attempt(() => structuredClone(value))),
    none: attempt(() => structuredClone()),
  };
};

const events = () => {
  const target = new EventTarget();
  const seen = [];
  const first = (event) => seen.push(`first ${event.type} ${event.target === target}`);
  target.addEventListener('a', first);
  target.addEventListener('a', first);
  target.addEventListener('a', { handleEvent: (event) => (event.preventDefault(), seen.push(`object ${event.defaultPrevented}`)) });
  target.addEventListener('a', () => seen.push('once'), { once: true });
  const results = [target.dispatchEvent(new Event('a')), target.dispatchEvent(new Event('a', { cancelable: true }))];
  target.removeEventListener('a', first);
  target.dispatchEvent(new CustomEvent('a', { detail: 7 }));
  const controller = new AbortController();
  controller.signal.addEventListener('abort', () => seen.push('aborted'));
  const joined = AbortSignal.any([new AbortController().signal, controller.signal]);
  controller.abort();
  controller.abort('again');
  return { seen, results, signal: [controller.signal.aborted, controller.signal.reason.name, joined.aborted, attempt(() => joined.throwIfAborted()), AbortSignal.abort('why').reason, attempt(() => new AbortSignal())] };
};

const timers = async () => {
  const order = [];
  const note = (name) => () => order.push(name);
  setTimeout(note('ten'), 10);
  setTimeout(note('one'), 1);
  setTimeout(note('zero'), 0);
  const never = setTimeout(note('never'), 2);
  clearTimeout(never);
  queueMicrotask(note('microtask'));
  Promise.resolve().then(note('then'));
  let beats = 0;
  await new Promise((done) => {
    const beat = setInterval(() => {
      beats += 1;
      if (beats === 3) done(clearInterval(beat));
    }, 4);
  });
  await new Promise((done) => setTimeout(done, 20, 'argument'));
  // Node.js ends where only such a signal is waited for.
  setTimeout(() => {}, 50);
  const late = AbortSignal.timeout(5);
  await new Promise((done) => late.addEventListener('abort', done));
  return { order, beats, late: late.reason.name };
};

const bodies = async () => {
  const headers = new Headers([['B', '2'], ['a', '1'], ['b', ' 3 '], ['set-cookie', 'x'], ['Set-Cookie', 'y']]);
  const response = new Response(JSON.stringify({ a: 1 }), { status: 201, headers: { 'X-A': 'b' } });
  const copy = response.clone();
  const request = new Request('http://h/p?q#f', { method: 'post', body: new URLSearchParams({ a: 'b c' }) });
  return {
    headers: [[...headers], headers.get('B'), headers.has('A'), headers.getSetCookie(), attempt(() => headers.append('bad name', 'x')), attempt(() => headers.set('a', 'x\ny'))],
    response: [response.status, response.ok, response.headers.get('x-a'), await response.json(), response.bodyUsed, await copy.text(), await response.text().catch((error) => error.name)],
    json: [Response.json([1]).headers.get('content-type'), await Response.json([1]).text(), attempt(() => new Response('', { status: 99 }))],
    bytes: [...new Uint8Array(await new Response(new Uint8Array([1, 2, 3]).subarray(1)).arrayBuffer())],
    request: [request.method, request.url, request.headers.get('content-type'), await request.text(), attempt(() => new Request('relative')), attempt(() => new Request('http://h', { body: 'x' }))],
  };
};

export default async () => ({
  encodings: encodings(),
  clones: clones(),
  events: events(),
  timers: await timers(),
  bodies: await bodies(),
  random: [crypto.randomUUID().replace(/[0-9a-f]/g, 'x'), crypto.getRandomValues(new Uint8Array(4)).length, attempt(() => crypto.getRandomValues(new Float32Array(1))), attempt(() => crypto.getRandomValues(new Uint8Array(70000)))],
  language: [
    [3, 1, 2].toSorted(), 'x'.padStart(3, 'ab'), [1, [2, [3]]].flat(Infinity), 'aXbX'.replaceAll('X', '-'), (1234.5).toFixed(2), new Intl_().ok, 0.1 + 0.2, 2n ** 70n + '',
    /(?<year>\d{4})-(?<month>\d\d)/u.exec('on 2024-02').groups.year, [...'a1b22'.matchAll(/\d+/g)].map(String), 'ﬁ'.normalize('NFKD'), new Date(Date.UTC(2024, 1, 29)).toISOString(), JSON.stringify({ u: undefined, d: new Date(0), n: NaN }),
  ],
});

function Intl_() {
  this.ok = true;
}
