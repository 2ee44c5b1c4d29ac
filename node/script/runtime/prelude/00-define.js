// How the rest of the prelude makes globals: as the engine's own are, writable and not enumerable.
(function (host, library) {
  library.define = (values) => {
    for (const [name, value] of Object.entries(values)) {
      Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
      if (typeof value === 'function' && value.prototype && /^[A-Z]/.test(name)) {
        Object.defineProperty(value.prototype, Symbol.toStringTag, { value: name, configurable: true });
      }
    }
  };
  library.define({ self: globalThis });
});
