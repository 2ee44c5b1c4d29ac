// URL (WHATWG URL): taken apart by the standard's rules, put together again from its parts.
(function (host, library) {
  const PORTS = { 'http:': '80', 'https:': '443', 'ws:': '80', 'wss:': '443', 'ftp:': '21', 'file:': '' };
  const isSpecial = (scheme) => Object.hasOwn(PORTS, scheme);
  const FRAGMENT = ' "<>`';
  const QUERY = ' "#<>';
  const PATH = ' "#<>?^`{}';
  const USER = ' "#<>?`{}/:;=@[\\]^|';
  const encode = (text, set) => library.percentEncode(text, set);

  const invalid = () => {
    throw new TypeError('Invalid URL');
  };
  const isDrive = (text) => /^[a-z][:|]$/i.test(text);

  // The segments of a path, with `.` and `..` taken away.
  const segmentsOf = (text, url, before = []) => {
    const segments = [...before];
    const parts = text.split(isSpecial(url.scheme) ? /[/\\]/ : '/');
    parts.forEach((part, at) => {
      const isLast = at === parts.length - 1;
      const plain = part.toLowerCase().replaceAll('%2e', '.');
      if (plain === '..') {
        if (!(url.scheme === 'file:' && segments.length === 1 && isDrive(segments[0]))) segments.pop();
        if (isLast) segments.push('');
      } else if (plain === '.') {
        if (isLast) segments.push('');
      } else {
        const isFirstDrive = url.scheme === 'file:' && segments.length === 0 && isDrive(part);
        segments.push(isFirstDrive ? `${part[0]}:` : encode(part, PATH));
      }
    });
    return segments;
  };

  const setPort = (url, text) => {
    if (text === '') {
      url.port = '';
      return;
    }
    if (!/^\d+$/.test(text) || Number(text) > 65535) invalid();
    url.port = String(Number(text)) === PORTS[url.scheme] ? '' : String(Number(text));
  };

  const setAuthority = (url, text) => {
    const at = text.lastIndexOf('@');
    if (at >= 0) {
      const [user, ...rest] = text.slice(0, at).split(':');
      url.username = encode(user, USER);
      url.password = encode(rest.join(':'), USER);
    }
    const address = text.slice(at + 1);
    const found = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/s.exec(address) ?? invalid();
    if (found[1] === '' && (isSpecial(url.scheme) || at >= 0 || found[2] !== undefined)) invalid();
    url.host = found[1] === '' ? '' : library.parseHost(found[1], isSpecial(url.scheme));
    setPort(url, found[2] ?? '');
  };

  const setQuery = (url, text) => {
    url.query = text === null ? null : encode(text, isSpecial(url.scheme) ? `${QUERY}'` : QUERY);
  };

  const fromBase = (url, base, withPath) => {
    Object.assign(url, { username: base.username, password: base.password, host: base.host, port: base.port });
    if (withPath) url.path = Array.isArray(base.path) ? [...base.path] : base.path;
  };

  const parseFile = (url, rest, base) => {
    const slashes = /^[/\\]{2}/.test(rest);
    url.host = '';
    if (slashes) {
      const found = /^[/\\]{2}([^/\\]*)(.*)$/s.exec(rest);
      const isDriveHost = isDrive(found[1]);
      const name = isDriveHost || found[1] === '' ? '' : library.parseHost(found[1], true);
      url.host = name === 'localhost' ? '' : name;
      url.path = segmentsOf(isDriveHost ? found[1] + found[2] : found[2].replace(/^[/\\]/, ''), url);
    } else if (/^[/\\]/.test(rest)) {
      if (base?.scheme === 'file:') url.host = base.host;
      url.path = segmentsOf(rest.slice(1), url);
    } else if (base?.scheme === 'file:' && !/^[a-z][:|]([/\\]|$)/i.test(rest)) {
      url.host = base.host;
      url.path = rest === '' ? [...base.path] : segmentsOf(rest, url, base.path.slice(0, -1));
      if (rest === '' && url.query === null) url.query = base.query;
    } else {
      url.path = segmentsOf(rest, url);
    }
  };

  const parseHierarchy = (url, rest, base) => {
    const slash = isSpecial(url.scheme) ? '[/\\\\]' : '/';
    const authority = new RegExp(`^${slash}${slash}${isSpecial(url.scheme) ? '[/\\\\]*' : ''}([^${isSpecial(url.scheme) ? '/\\\\' : '/'}]*)(.*)$`, 's');
    const found = authority.exec(rest);
    if (found) {
      setAuthority(url, found[1]);
      const path = found[2];
      url.path = path === '' ? (isSpecial(url.scheme) ? [''] : []) : segmentsOf(path.slice(1), url);
    } else if (base && new RegExp(`^${slash}`).test(rest)) {
      fromBase(url, base, false);
      url.path = segmentsOf(rest.slice(1), url);
    } else if (base && rest === '') {
      fromBase(url, base, true);
      if (url.query === null) url.query = base.query;
    } else if (base) {
      fromBase(url, base, false);
      url.path = segmentsOf(rest, url, base.path.slice(0, -1));
    } else if (rest.startsWith('/')) {
      url.path = segmentsOf(rest.slice(1), url);
    } else {
      url.path = encode(rest, '');
    }
  };

  const parse = (input, base) => {
    let text = input.replace(/^[\0-\x20]+|[\0-\x20]+$/g, '').replace(/[\t\n\r]/g, '');
    const url = { scheme: '', username: '', password: '', host: null, port: '', path: [], query: null, fragment: null };
    const hash = text.indexOf('#');
    if (hash >= 0) {
      url.fragment = encode(text.slice(hash + 1), FRAGMENT);
      text = text.slice(0, hash);
    }
    const scheme = /^([a-z][a-z0-9+.-]*):(.*)$/is.exec(text);
    let rest = scheme ? scheme[2] : text;
    if (scheme) url.scheme = `${scheme[1].toLowerCase()}:`;
    else if (!base) invalid();
    else if (!Array.isArray(base.path)) {
      if (text !== '' || hash < 0) invalid();
      return { ...base, fragment: url.fragment };
    } else url.scheme = base.scheme;
    const isRelative = !scheme || (isSpecial(url.scheme) && base?.scheme === url.scheme && !/^[/\\]{2}/.test(rest));
    const query = rest.indexOf('?');
    if (query >= 0) {
      setQuery(url, rest.slice(query + 1));
      rest = rest.slice(0, query);
    }
    if (url.scheme === 'file:') parseFile(url, rest, base);
    else if (scheme && isSpecial(url.scheme) && !isRelative && !/^[/\\]{2}/.test(rest)) {
      parseHierarchy(url, `//${rest.replace(/^[/\\]*/, '')}`, null);
    } else parseHierarchy(url, rest, isRelative ? base : null);
    return url;
  };

  const hostText = (url) => (url.host === null ? '' : url.host + (url.port === '' ? '' : `:${url.port}`));
  const pathText = (url) => (Array.isArray(url.path) ? url.path.map((part) => `/${part}`).join('') : url.path);
  const href = (url) => {
    let text = url.scheme;
    if (url.host !== null) {
      const password = url.password === '' ? '' : `:${url.password}`;
      const user = url.username === '' && password === '' ? '' : `${url.username}${password}@`;
      text += `//${user}${hostText(url)}`;
    } else if (Array.isArray(url.path) && url.path.length > 1 && url.path[0] === '') {
      text += '/.';
    }
    text += pathText(url);
    if (url.query !== null) text += `?${url.query}`;
    return url.fragment === null ? text : `${text}#${url.fragment}`;
  };

  class URL {
    #url;
    #params;

    constructor(input, base) {
      if (arguments.length === 0) throw new TypeError('a URL needs an address');
      const text = String(input).toWellFormed();
      try {
        this.#url = parse(text, base === undefined ? null : parse(String(base).toWellFormed(), null));
      } catch (error) {
        throw Object.assign(error instanceof TypeError ? new TypeError('Invalid URL') : error, { code: 'ERR_INVALID_URL', input: text });
      }
    }

    static canParse(input, base) {
      return URL.parse(input, base) !== null;
    }

    static parse(input, base) {
      try {
        return new URL(input, base);
      } catch {
        return null;
      }
    }

    // Setters change what fits and leave the rest as it is.
    #try(change) {
      const copy = { ...this.#url };
      try {
        change(copy);
      } catch {
        return;
      }
      this.#url = copy;
    }

    #hasNoHost() {
      return !this.#url.host || this.#url.scheme === 'file:';
    }

    get href() {
      return href(this.#url);
    }

    set href(value) {
      this.#url = parse(String(value).toWellFormed(), null);
      if (this.#params) library.setPairs(this.#params, this.#url.query ?? '');
    }

    get origin() {
      const { scheme } = this.#url;
      if (scheme === 'blob:') {
        const inner = URL.parse(pathText(this.#url));
        return inner && /^https?:$/.test(inner.protocol) ? inner.origin : 'null';
      }
      return isSpecial(scheme) && scheme !== 'file:' ? `${scheme}//${hostText(this.#url)}` : 'null';
    }

    get protocol() {
      return this.#url.scheme;
    }

    set protocol(value) {
      const scheme = `${String(value).split(':')[0].toLowerCase()}:`;
      if (!/^[a-z][a-z0-9+.-]*:$/.test(scheme) || isSpecial(scheme) !== isSpecial(this.#url.scheme)) return;
      if (scheme === 'file:' && (this.#url.username || this.#url.password || this.#url.port)) return;
      if (this.#url.scheme === 'file:' && !this.#url.host) return;
      this.#url.scheme = scheme;
      if (this.#url.port === PORTS[scheme]) this.#url.port = '';
    }

    get username() {
      return this.#url.username;
    }

    set username(value) {
      if (!this.#hasNoHost()) this.#url.username = encode(String(value), USER);
    }

    get password() {
      return this.#url.password;
    }

    set password(value) {
      if (!this.#hasNoHost()) this.#url.password = encode(String(value), USER);
    }

    get host() {
      return hostText(this.#url);
    }

    set host(value) {
      if (!Array.isArray(this.#url.path)) return;
      const isFile = this.#url.scheme === 'file:';
      const found = (isFile ? /^([^/?#\\]*)/ : /^(\[[^\]]*\]|[^:/?#\\]*)(?::(\d+))?/).exec(String(value));
      this.#try((url) => {
        if (isFile) {
          const name = found[1] === '' ? '' : library.parseHost(found[1], true);
          url.host = name === 'localhost' ? '' : name;
          return;
        }
        if (found[1] === '' && isSpecial(url.scheme)) invalid();
        url.host = found[1] === '' ? '' : library.parseHost(found[1], isSpecial(url.scheme));
        if (found[2]) setPort(url, found[2]);
      });
    }

    get hostname() {
      return this.#url.host ?? '';
    }

    set hostname(value) {
      const found = /^(\[[^\]]*\]|[^:/?#\\]*)(:?)/.exec(String(value));
      if (found[2] === '' && (found[1] !== '' || !isSpecial(this.#url.scheme))) this.host = found[1];
    }

    get port() {
      return this.#url.port;
    }

    set port(value) {
      if (this.#hasNoHost()) return;
      const digits = /^\d*/.exec(String(value))[0];
      if (digits !== '' || String(value) === '') this.#try((url) => setPort(url, digits));
    }

    get pathname() {
      return pathText(this.#url);
    }

    set pathname(value) {
      if (Array.isArray(this.#url.path)) {
        const text = String(value).replace(isSpecial(this.#url.scheme) ? /^[/\\]/ : /^\//, '').replaceAll('#', '%23').replaceAll('?', '%3F');
        const isEmpty = text === '' && String(value) === '' && !isSpecial(this.#url.scheme) && this.#url.host !== null;
        this.#url.path = isEmpty ? [] : segmentsOf(text, this.#url);
      }
    }

    get search() {
      return this.#url.query ? `?${this.#url.query}` : '';
    }

    set search(value) {
      const text = String(value);
      setQuery(this.#url, text === '' ? null : text.replace(/^\?/, ''));
      if (this.#params) library.setPairs(this.#params, this.#url.query ?? '');
    }

    get searchParams() {
      if (!this.#params) {
        this.#params = new URLSearchParams();
        library.setPairs(this.#params, this.#url.query ?? '', () => {
          this.#url.query = String(this.#params) || null;
        });
      }
      return this.#params;
    }

    get hash() {
      return this.#url.fragment ? `#${this.#url.fragment}` : '';
    }

    set hash(value) {
      const text = String(value);
      this.#url.fragment = text === '' ? null : encode(text.replace(/^#/, ''), FRAGMENT);
    }

    toString() {
      return this.href;
    }

    toJSON() {
      return this.href;
    }
  }
  library.define({ URL });
});
