// Request, Response and fetch (WHATWG Fetch), with whole bodies: no streams, no cookies, no cache. The host sends, to
// granted origins only, and follows no redirect.
(function (host, library) {
  const METHODS = ['DELETE', 'GET', 'HEAD', 'OPTIONS', 'POST', 'PUT'];
  const decoder = new TextDecoder();

  // The bytes of a body, and the content type that goes with its kind.
  const extract = (body) => {
    if (body === undefined || body === null) return [null, ''];
    if (typeof body === 'string') return [host.encode(body.toWellFormed()), 'text/plain;charset=UTF-8'];
    if (body instanceof URLSearchParams) {
      return [host.encode(String(body)), 'application/x-www-form-urlencoded;charset=UTF-8'];
    }
    if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) return [library.bytesOf(body).slice(), ''];
    return [host.encode(String(body)), 'text/plain;charset=UTF-8'];
  };

  class Body {
    #bytes = null;
    #isUsed = false;

    constructor(body, headers) {
      const [bytes, type] = extract(body);
      this.#bytes = bytes;
      if (type && !headers.has('content-type')) headers.set('content-type', type);
    }

    get bodyUsed() {
      return this.#isUsed;
    }

    get body() {
      return null;
    }

    #take() {
      if (this.#isUsed) throw new TypeError('the body was read already');
      this.#isUsed = this.#bytes !== null;
      return this.#bytes ?? new Uint8Array(0);
    }

    async bytes() {
      return this.#take().slice();
    }

    async arrayBuffer() {
      return this.#take().slice().buffer;
    }

    async text() {
      return decoder.decode(this.#take());
    }

    async json() {
      return JSON.parse(await this.text());
    }

    static peek(of) {
      if (of.#isUsed) throw new TypeError('the body was read already');
      return of.#bytes;
    }
  }
  const peek = Body.peek;
  delete Body.peek;
  library.bodyOf = peek;

  class Request extends Body {
    #parts;

    constructor(input, init = {}) {
      const from = input instanceof Request ? input : null;
      const url = new URL(from ? from.url : String(input));
      if (url.username || url.password) throw new TypeError('a request\'s URL has no credentials; send an Authorization header');
      const upper = String(init.method ?? from?.method ?? 'GET');
      const method = METHODS.includes(upper.toUpperCase()) ? upper.toUpperCase() : upper;
      if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(method)) throw new TypeError(`'${method}' is not a method`);
      const headers = new Headers(init.headers ?? from?.headers);
      const body = init.body ?? (from ? peek(from) : null);
      if (body !== null && body !== undefined && (method === 'GET' || method === 'HEAD')) {
        throw new TypeError(`a ${method} request has no body`);
      }
      super(body, headers);
      this.#parts = { url: url.href, method, headers, signal: init.signal ?? from?.signal ?? new AbortController().signal };
    }

    get url() {
      return this.#parts.url;
    }

    get method() {
      return this.#parts.method;
    }

    get headers() {
      return this.#parts.headers;
    }

    get signal() {
      return this.#parts.signal;
    }

    get redirect() {
      return 'manual';
    }

    clone() {
      return new Request(this);
    }
  }

  class Response extends Body {
    #parts;

    constructor(body, init = {}) {
      const status = init.status === undefined ? 200 : Number(init.status);
      if (!(status >= 200 && status <= 599)) throw new RangeError(`${init.status} is not a response's status`);
      const headers = new Headers(init.headers);
      super(body, headers);
      this.#parts = { status: Math.floor(status), statusText: String(init.statusText ?? ''), headers, url: '' };
    }

    static json(value, init = {}) {
      const text = JSON.stringify(value);
      if (text === undefined) throw new TypeError('the value is not JSON');
      const headers = new Headers(init.headers);
      if (!headers.has('content-type')) headers.set('content-type', 'application/json');
      return new Response(text, { ...init, headers });
    }

    static error() {
      const response = new Response(null);
      response.#parts.status = 0;
      return response;
    }

    static redirect(url, status = 302) {
      return new Response(null, { status, headers: { location: new URL(url).href } });
    }

    static received(status, headers, body, url) {
      const response = new Response(body);
      response.#parts = { status, statusText: '', headers, url };
      return response;
    }

    get status() {
      return this.#parts.status;
    }

    get statusText() {
      return this.#parts.statusText;
    }

    get headers() {
      return this.#parts.headers;
    }

    get url() {
      return this.#parts.url;
    }

    get ok() {
      return this.status >= 200 && this.status <= 299;
    }

    get redirected() {
      return false;
    }

    get type() {
      return this.status === 0 ? 'error' : 'default';
    }

    clone() {
      const { status, statusText, headers, url } = this.#parts;
      const copy = new Response(peek(this));
      copy.#parts = { status, statusText, headers: new Headers(headers), url };
      return copy;
    }
  }
  const received = Response.received;
  delete Response.received;

  // The head of an answer ends with an empty line: `200`, then a line for each header.
  const readAnswer = (bytes, url) => {
    let end = 0;
    while (end < bytes.length && !(bytes[end] === 10 && (end === 0 || bytes[end - 1] === 10))) end += 1;
    const [status, ...lines] = new TextDecoder('utf-8').decode(bytes.subarray(0, end)).split('\n');
    return received(Number(status), library.readHeaders(lines), bytes.slice(end + 1), url);
  };

  // Waits for the host's answer to a request; an abort takes the request back.
  library.answerTo = (number, signal) =>
    new Promise((resolve, reject) => {
      let give = () => signal?.removeEventListener('abort', aborted);
      const cancel = library.request(number, (isFailure, bytes) => {
        give();
        resolve({ isFailure, bytes });
      });
      const aborted = () => {
        cancel();
        reject(signal.reason);
      };
      signal?.addEventListener('abort', aborted, { once: true });
    });

  const fetch = async (input, init) => {
    const request = new Request(input, init);
    const { signal } = request;
    signal.throwIfAborted();
    if (!/^https?:$/.test(new URL(request.url).protocol)) throw new TypeError(`fetch sends http and https, not ${request.url}`);
    const address = request.url.split('#')[0];
    const head = `${request.method} ${address}\n${library.headerLines(request.headers)}`;
    const { isFailure, bytes } = await library.answerTo(host.http(head, peek(request) ?? ''), signal);
    if (!isFailure) return readAnswer(bytes, address);
    const failure = library.failure(bytes);
    throw Object.assign(new TypeError(`fetch failed: ${failure.message}`), { code: failure.code, cause: failure });
  };

  library.define({ Request, Response, fetch });
});
