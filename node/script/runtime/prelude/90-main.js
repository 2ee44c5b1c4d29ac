// The script's side of a call: its input and result, its context, and how it is loaded.
(function (host, library) {
  const KINDS = ['auto', 'json', 'text', 'bytes'];
  let handler;
  let kind = 'auto';

  class InvokeError extends Error {
    constructor({ message, code, progress }) {
      super(message);
      this.code = code;
      this.progress = progress;
    }
  }
  Object.defineProperty(InvokeError.prototype, 'name', { value: 'InvokeError', writable: true, configurable: true });

  // What the host says of a request that failed.
  library.failure = (bytes) => new InvokeError(JSON.parse(host.decode(bytes)));

  const isJson = (type) => /^\s*application\/([\w.+-]+\+)?json\s*(;|$)/i.test(type);
  const isText = (type) => /^\s*text\//i.test(type);

  const parsed = (text) => {
    try {
      return JSON.parse(text);
    } catch {
      return undefined;
    }
  };

  // A payload as its receiver wants it. `auto`: nothing is undefined; a JSON or text content type is taken at its word;
  // else what parses as JSON is that, other text a string, other bytes a Uint8Array.
  const received = (bytes, as, type, whose) => {
    if (as === 'bytes') return bytes;
    const text = host.decode(bytes);
    if (as === 'text') return text ?? new TextDecoder().decode(bytes);
    if (as === 'json' || isJson(type)) {
      if (text === undefined) throw new SyntaxError(`${whose} is not JSON: it is not UTF-8`);
      if (text === '' && as !== 'json') return undefined;
      try {
        return JSON.parse(text);
      } catch (error) {
        throw new SyntaxError(`${whose} is not JSON: ${error.message}`);
      }
    }
    if (text === '') return undefined;
    if (text === undefined) return bytes;
    if (isText(type)) return text;
    const value = parsed(text);
    return value === undefined ? text : value;
  };

  // A value as bytes or text: those as they are, anything else as JSON.
  const sent = (value, whose) => {
    if (value === undefined) return '';
    if (typeof value === 'string') return value;
    if (value instanceof Uint8Array) return value;
    if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return library.bytesOf(value);
    if (value instanceof Response) return library.bodyOf(value) ?? '';
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`${whose} is a ${typeof value}, which has no JSON`);
    return text;
  };

  const contextOf = (leftMs, environment) => {
    const env = {};
    const headers = new Headers();
    for (const line of environment.split('\0')) {
      const at = line.indexOf('=');
      if (at <= 0) continue;
      const [name, value] = [line.slice(0, at), line.slice(at + 1)];
      if (name.startsWith('HTTP_')) headers.set(name.slice(5).toLowerCase().replaceAll('_', '-'), value);
      else if (name === 'TRACEPARENT') headers.set('traceparent', value);
      else if (!name.startsWith('SKEIN_')) env[name] = value;
      else env[name] = value;
    }
    const end = performance.now() + leftMs;
    const invoke = async (reference, input, options = {}) => {
      const { signal } = options;
      signal?.throwIfAborted();
      const lines = library.headerLines(new Headers(options.headers));
      const number = host.invoke(String(reference), lines, sent(input, `the input of ${reference}`));
      const { isFailure, bytes } = await library.answerTo(number, signal);
      if (isFailure) throw library.failure(bytes);
      return received(bytes, options.as ?? 'auto', '', `the result of ${reference}`);
    };
    return {
      log: library.log,
      invoke,
      env,
      headers,
      deadline: new Date(Date.now() + leftMs),
      remaining: () => Math.max(end - performance.now(), 0),
      invocation: env.SKEIN_INVOCATION ?? '',
      function: env.SKEIN_FUNCTION ?? '',
      version: env.SKEIN_VERSION ? Number(env.SKEIN_VERSION) : 0,
    };
  };

  // The engine calls this for each call, with the payload as bytes.
  library.handle = async (leftMs, environment, payload) => {
    library.beginTimers();
    const context = contextOf(leftMs, environment);
    const input = received(payload, kind, context.headers.get('content-type') ?? '', 'the payload');
    const result = await handler(input, context);
    host.output(sent(result, 'the result'));
    library.endRejections(true);
  };

  library.end = () => {
    library.endTimers();
    library.endConsole();
    library.endRejections(false);
  };

  // The engine calls this once, with the path of the entry.
  library.load = async (entry) => {
    library.setFiles(host.paths());
    library.entry = entry;
    const space = await library.import(entry);
    handler = space.default;
    if (typeof handler === 'object' && handler !== null && typeof handler.default === 'function') handler = handler.default;
    if (typeof handler !== 'function') {
      const names = Object.keys(space).filter((name) => name !== 'module.exports').join(', ') || 'nothing';
      throw new TypeError(
        `${entry} has no default export that is a function; write \`export default async (input, ctx) => …\`. It exports ${names}`,
      );
    }
    kind = space.input ?? 'auto';
    if (!KINDS.includes(kind)) throw new TypeError(`${entry} exports input = ${library.inspect(kind)}; it may be ${KINDS.join(', ')}`);
    library.endRejections(true);
  };
});
