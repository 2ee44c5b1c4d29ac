// structuredClone (HTML): values, dates, expressions, maps, sets, buffers, errors, and cycles among them.
(function (host, library) {
  const errors = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };
  const refuse = (what) => {
    throw new DOMException(`${what} could not be cloned`, 'DataCloneError');
  };

  const cloneView = (value, clone) => {
    const buffer = clone(value.buffer);
    if (value instanceof DataView) return new DataView(buffer, value.byteOffset, value.byteLength);
    return new globalThis[Object.prototype.toString.call(value).slice(8, -1)](buffer, value.byteOffset, value.length);
  };

  const cloneError = (value, clone, seen) => {
    const name = typeof value.name === 'string' && value.name in errors ? value.name : 'Error';
    const copy = Object.create(errors[name].prototype);
    const made = new errors[name](value.message);
    Object.setPrototypeOf(made, Object.getPrototypeOf(copy));
    seen.set(value, made);
    Object.defineProperty(made, 'stack', { value: String(value.stack), writable: true, configurable: true });
    if ('cause' in value) Object.defineProperty(made, 'cause', { value: clone(value.cause), writable: true, configurable: true });
    return made;
  };

  const cloneObject = (value, clone, seen) => {
    const tag = Object.prototype.toString.call(value).slice(8, -1);
    const keep = (copy) => {
      seen.set(value, copy);
      return copy;
    };
    if (value instanceof Date) return keep(new Date(+value));
    if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
    if (value instanceof Boolean || value instanceof Number || value instanceof String) return keep(Object(value.valueOf()));
    if (value instanceof ArrayBuffer) return keep(value.slice(0));
    if (ArrayBuffer.isView(value)) return keep(cloneView(value, clone));
    if (value instanceof Map) {
      const copy = keep(new Map());
      for (const [key, item] of [...value]) copy.set(clone(key), clone(item));
      return copy;
    }
    if (value instanceof Set) {
      const copy = keep(new Set());
      for (const item of [...value]) copy.add(clone(item));
      return copy;
    }
    if (Error.isError(value)) return cloneError(value, clone, seen);
    if (tag === 'Promise' || tag === 'WeakMap' || tag === 'WeakSet' || tag === 'WeakRef' || tag === 'Symbol') refuse(`a ${tag}`);
    const copy = keep(Array.isArray(value) ? new Array(value.length) : {});
    for (const key of Object.keys(value)) copy[key] = clone(value[key]);
    return copy;
  };

  const structuredClone = (...values) => {
    const [value, options] = values;
    if (values.length === 0) throw new TypeError('structuredClone needs a value');
    const seen = new Map();
    const clone = (item) => {
      if (typeof item === 'function') refuse(`the function ${item.name || '(anonymous)'}`);
      if (typeof item === 'symbol') refuse(String(item));
      if (typeof item !== 'object' || item === null) return item;
      return seen.has(item) ? seen.get(item) : cloneObject(item, clone, seen);
    };
    for (const buffer of options?.transfer ?? []) {
      if (!(buffer instanceof ArrayBuffer)) refuse('what is no ArrayBuffer');
    }
    const copy = clone(value);
    for (const buffer of options?.transfer ?? []) buffer.transfer();
    return copy;
  };
  library.define({ structuredClone });
});
