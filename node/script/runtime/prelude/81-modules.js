// What a file is (JavaScript module, CommonJS, JSON), and CommonJS itself: require, module, exports.
(function (host, library) {
  const IMPORTS = /(^|[;}\n])\s*(import\s*[\w${*'"]|import\s*\(|export\s*[{*]|export\s+(default|const|let|var|function|class|async)\b)|\bimport\.meta\b/;
  let modules = Object.create(null);

  const textOf = (path) => host.text(library.fileIndex(path));

  // 'module', 'commonjs' or 'json'. What package.json says goes first; what the text says comes where it says nothing.
  const formatOf = (path) => {
    if (path.endsWith('.json')) return 'json';
    if (path.endsWith('.mjs')) return 'module';
    if (path.endsWith('.cjs')) return 'commonjs';
    const [, found] = library.packageOf(path);
    if (found?.type === 'module') return 'module';
    if (found?.type === 'commonjs') return 'commonjs';
    return IMPORTS.test(textOf(path).replace(/\/\*[\s\S]*?\*\//g, '')) && !isCommon(path) ? 'module' : 'commonjs';
  };

  // A text that looks like a module may be CommonJS that imports dynamically: then it compiles as a function.
  const isCommon = (path) => {
    try {
      host.compile(library.fileIndex(path));
      return true;
    } catch {
      return false;
    }
  };

  const parseJson = (path) => {
    try {
      return JSON.parse(textOf(path));
    } catch (error) {
      throw new SyntaxError(`${path} is not JSON: ${error.message}`);
    }
  };

  const requireFrom = (base) => {
    const resolve = (name) => library.resolvePath(base, String(name), true);
    const require = (name) => {
      if (typeof name !== 'string' || name === '') throw new TypeError('require needs the name of a module');
      const path = resolve(name);
      if (path === 'skein:empty') return {};
      if (formatOf(path) !== 'module') return commonjs(path).exports;
      const space = host.require(path);
      return Object.hasOwn(space, 'module.exports') ? space['module.exports'] : space;
    };
    require.resolve = (name) => `/${resolve(name)}`;
    require.cache = Object.create(null);
    return require;
  };

  // The module object of a CommonJS or JSON file, run at its first use.
  const commonjs = (path) => {
    if (modules[path]) return modules[path];
    const module = { exports: {}, id: path, filename: `/${path}`, loaded: false, children: [], paths: [] };
    modules[path] = module;
    try {
      if (path.endsWith('.json')) {
        module.exports = parseJson(path);
      } else {
        module.require = requireFrom(path);
        const run = host.compile(library.fileIndex(path));
        run.call(module.exports, module.exports, module.require, module, `/${path}`, `/${library.directory(path)}`);
      }
    } catch (error) {
      delete modules[path];
      throw error;
    }
    module.loaded = true;
    return module;
  };

  // The names and values by which a JavaScript module sees one that is none.
  const pairsOf = (exports, isCommonjs) => {
    const pairs = ['default', exports];
    if (!isCommonjs || (typeof exports !== 'object' && typeof exports !== 'function') || exports === null) return pairs;
    for (const name of Object.keys(exports)) {
      if (name !== 'default' && name !== 'module.exports') pairs.push(name, exports[name]);
    }
    pairs.push('module.exports', exports);
    return pairs;
  };

  // For the engine: the path that a specifier means, and what is behind a path.
  library.resolve = (base, name) =>
    name.startsWith('skein:entry/') && base === '' ? name.slice(12) : library.resolvePath(base, name, false);
  library.provide = (path) => {
    if (path === 'skein:empty') return ['default', {}];
    const format = formatOf(path);
    return format === 'module' ? library.fileIndex(path) : pairsOf(commonjs(path).exports, format === 'commonjs');
  };
  library.meta = (meta, path) => {
    meta.url = `file:///${path}`;
    meta.filename = `/${path}`;
    meta.dirname = `/${library.directory(path)}`;
    meta.main = path === library.entry;
    meta.resolve = (name) => `file:///${library.resolvePath(path, String(name), false)}`;
  };
  library.import = (path) => host.namespace(`skein:entry/${path}`);
  const loadRequired = host.require;
  host.require = (path) => loadRequired(`skein:entry/${path}`);
});
