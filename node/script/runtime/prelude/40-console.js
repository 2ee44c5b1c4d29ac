// console, and how values are shown in it.
(function (host, library) {
  const DEPTH = 4;
  const ITEMS = 100;
  const LINE = 76;

  const quoted = (text) => (text.includes("'") ? JSON.stringify(text) : `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"')}'`);
  const keyText = (key) => (typeof key === 'symbol' ? `[${String(key)}]` : /^[A-Za-z_$][\w$]*$/.test(key) ? key : quoted(key));

  const className = (value) => {
    const prototype = Object.getPrototypeOf(value);
    if (prototype === null) return '[Object: null prototype]';
    const name = prototype.constructor?.name;
    return typeof name === 'string' && name ? name : 'Object';
  };

  const list = (open, parts, close, indent) => {
    if (parts.length === 0) return open + close;
    const total = parts.reduce((sum, part) => sum + part.length + 2, open.length + close.length);
    if (total + indent <= LINE && !parts.some((part) => part.includes('\n'))) return `${open} ${parts.join(', ')} ${close}`;
    const pad = ' '.repeat(indent + 2);
    return `${open}\n${pad}${parts.join(`,\n${pad}`)}\n${' '.repeat(indent)}${close}`;
  };

  const shownError = (error) => {
    const head = library.headline(error);
    const stack = typeof error.stack === 'string' ? library.cleanStack(error.stack) : '';
    const cause = error.cause === undefined ? '' : `\n[cause]: ${show(error.cause, 0, 1, new Set())}`;
    return head + (stack ? `\n${stack}` : '') + cause;
  };

  const entriesOf = (value, show1) => {
    if (value instanceof Map) return Array.from(value, ([key, item]) => `${show1(key)} => ${show1(item)}`);
    if (value instanceof Set) return Array.from(value, show1);
    if (Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))) {
      const shown = Array.from({ length: Math.min(value.length, ITEMS) }, (_, at) => (at in value ? show1(value[at]) : 'empty'));
      if (value.length > ITEMS) shown.push(`... ${value.length - ITEMS} more`);
      return shown;
    }
    return [];
  };

  const open = (value) => {
    const name = className(value);
    if (Array.isArray(value)) return name === 'Array' ? '[' : `${name}(${value.length}) [`;
    if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return `${name}(${value.length}) [`;
    if (value instanceof Map || value instanceof Set) return `${name}(${value.size}) {`;
    return name === 'Object' ? '{' : `${name} {`;
  };

  const showObject = (value, indent, depth, seen) => {
    if (seen.has(value)) return '[Circular]';
    if (value instanceof Error || (globalThis.DOMException && value instanceof DOMException)) return shownError(value);
    if (value instanceof Date) return Number.isNaN(+value) ? 'Invalid Date' : value.toISOString();
    if (value instanceof RegExp) return String(value);
    if (value instanceof Promise) return 'Promise {}';
    if (value instanceof URL) return `URL { ${quoted(value.href)} }`;
    if (value instanceof Number || value instanceof String || value instanceof Boolean) {
      return `[${className(value)}: ${show(value.valueOf(), 0, 0, seen)}]`;
    }
    if (depth > DEPTH) return Array.isArray(value) ? '[Array]' : `[${className(value)}]`;
    seen.add(value);
    const show1 = (item) => show(item, indent + 2, depth + 1, seen);
    const items = entriesOf(value, show1);
    const isList = Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
    const own = Reflect.ownKeys(value).filter((key) => {
      if (isList && typeof key === 'string' && /^\d+$/.test(key)) return false;
      return Object.prototype.propertyIsEnumerable.call(value, key);
    });
    for (const key of own.slice(0, ITEMS)) {
      const { get, set, value: item } = Object.getOwnPropertyDescriptor(value, key);
      items.push(`${keyText(key)}: ${get ? (set ? '[Getter/Setter]' : '[Getter]') : set ? '[Setter]' : show1(item)}`);
    }
    if (own.length > ITEMS) items.push(`... ${own.length - ITEMS} more`);
    seen.delete(value);
    return list(open(value), items, isList ? ']' : '}', indent);
  };

  const show = (value, indent, depth, seen) => {
    switch (typeof value) {
      case 'string':
        return quoted(value);
      case 'bigint':
        return `${value}n`;
      case 'symbol':
        return String(value);
      case 'function': {
        const isClass = /^class\b/.test(Function.prototype.toString.call(value));
        return `[${isClass ? 'class' : 'Function'}${value.name ? `${isClass ? ' ' : ': '}${value.name}` : ' (anonymous)'}]`;
      }
      case 'object':
        return value === null ? 'null' : showObject(value, indent, depth, seen);
      default:
        return Object.is(value, -0) ? '-0' : String(value);
    }
  };

  const inspect = (value) => {
    try {
      return show(value, 0, 0, new Set());
    } catch (error) {
      return `[a value that cannot be shown: ${library.headline(error)}]`;
    }
  };
  library.inspect = inspect;

  // The placeholders of printf that console.log knows; what is left follows, with spaces.
  const format = (values) => {
    const rest = [...values];
    let text = '';
    if (typeof rest[0] === 'string' && rest.length > 1 && rest[0].includes('%')) {
      text = rest.shift().replace(/%([sdifoOjc%])/g, (whole, letter) => {
        if (letter === '%') return '%';
        if (rest.length === 0) return whole;
        const value = rest.shift();
        if (letter === 's') return typeof value === 'object' && value !== null ? inspect(value) : String(value);
        if (letter === 'd') return typeof value === 'bigint' ? `${value}n` : String(Number(value));
        if (letter === 'i') return typeof value === 'bigint' ? `${value}n` : String(Number.parseInt(value, 10));
        if (letter === 'f') return String(Number.parseFloat(value));
        if (letter === 'j') return String(JSON.stringify(value));
        return letter === 'c' ? '' : inspect(value);
      });
      if (rest.length === 0) return text;
      text += ' ';
    }
    return text + rest.map((value) => (typeof value === 'string' ? value : inspect(value))).join(' ');
  };

  let group = '';
  let counts = Object.create(null);
  let times = Object.create(null);
  const log = (...values) => host.log(`${group}${format(values).replaceAll('\n', `\n${group}`)}\n`);
  library.log = log;
  library.endConsole = () => {
    group = '';
    counts = Object.create(null);
    times = Object.create(null);
  };

  const timed = (label) => `${label}: ${(performance.now() - times[label]).toFixed(3)}ms`;
  const console = {
    log,
    info: log,
    debug: log,
    warn: log,
    error: log,
    trace: (...values) => log(`Trace: ${format(values)}\n${library.cleanStack(new Error().stack)}`),
    assert: (condition, ...values) => {
      if (!condition) log(`Assertion failed${values.length > 0 ? `: ${format(values)}` : ''}`);
    },
    dir: (value) => log(inspect(value)),
    dirxml: log,
    table: (value) => log(inspect(value)),
    group: (...values) => {
      if (values.length > 0) log(...values);
      group += '  ';
    },
    groupEnd: () => {
      group = group.slice(2);
    },
    count: (label = 'default') => {
      counts[label] = (counts[label] ?? 0) + 1;
      log(`${label}: ${counts[label]}`);
    },
    countReset: (label = 'default') => {
      counts[label] = 0;
    },
    time: (label = 'default') => {
      times[label] = performance.now();
    },
    timeLog: (label = 'default', ...values) => label in times && log(timed(label), ...values),
    timeEnd: (label = 'default') => {
      if (label in times) log(timed(label));
      delete times[label];
    },
  };
  console.groupCollapsed = console.group;
  library.define({ console });
});
