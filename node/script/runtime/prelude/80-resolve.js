// Which file a specifier means: relative paths, packages in node_modules, `exports` and `imports` of package.json.
// Follows what Node.js documents, with the conditions of a runtime that is no Node.js; extensions may be left out.
(function (host, library) {
  const EXTENSIONS = ['', '.js', '.mjs', '.cjs', '.json'];
  // No Set: the seed of hash tables is chosen after this.
  const BUILTIN = (
    'assert async_hooks buffer child_process cluster console constants crypto dgram diagnostics_channel dns domain events fs ' +
      'http http2 https inspector module net os path perf_hooks process punycode querystring readline repl stream ' +
      'string_decoder sys timers tls tty url util v8 vm wasi worker_threads zlib'
  ).split(' ');
  let files = Object.create(null);
  let folders = Object.create(null);
  let packages = Object.create(null);

  library.setFiles = (paths) => {
    paths.forEach((path, index) => {
      files[path] = index;
      for (let at = path.indexOf('/'); at > 0; at = path.indexOf('/', at + 1)) folders[path.slice(0, at)] = true;
    });
  };
  library.fileIndex = (path) => files[path];

  const directory = (path) => path.slice(0, Math.max(path.lastIndexOf('/'), 0));
  library.directory = directory;

  // `a/./b/../c` as `a/c`; null if it leaves the bundle.
  const join = (...parts) => {
    const segments = [];
    for (const part of parts.join('/').split('/')) {
      if (part === '' || part === '.') continue;
      if (part === '..' && segments.pop() === undefined) return null;
      if (part !== '..') segments.push(part);
    }
    return segments.join('/');
  };

  const manifest = (folder) => {
    if (folder in packages) return packages[folder];
    const path = join(folder, 'package.json');
    const index = files[path];
    let found = null;
    if (index !== undefined) {
      try {
        found = JSON.parse(host.text(index));
      } catch (error) {
        throw new SyntaxError(`${path} is not JSON: ${error.message}`);
      }
    }
    packages[folder] = found;
    return found;
  };

  // The folder of the package that a file belongs to, and its package.json; none above the bundle's own.
  const packageOf = (path) => {
    for (let folder = directory(path); ; folder = directory(folder)) {
      const found = /(^|\/)node_modules$/.test(folder) ? null : manifest(folder);
      if (found) return [folder, found];
      if (folder === '' || /(^|\/)node_modules$/.test(folder)) return [folder, null];
    }
  };
  library.packageOf = packageOf;

  // `browser` in package.json may put another file, or nothing, in a file's place.
  const replaced = (path) => {
    const [folder, found] = packageOf(path);
    if (typeof found?.browser !== 'object' || found.browser === null) return path;
    const inside = `./${folder === '' ? path : path.slice(folder.length + 1)}`;
    for (const key of [inside, inside.replace(/\.js$/, ''), inside.replace(/\/index\.js$/, '')]) {
      if (!Object.hasOwn(found.browser, key)) continue;
      const target = found.browser[key];
      return target === false ? 'skein:empty' : asFile(join(folder, target)) ?? path;
    }
    return path;
  };

  const asFile = (path) => {
    if (path === null) return null;
    const extension = EXTENSIONS.find((added) => files[path + added] !== undefined);
    return extension === undefined ? null : path + extension;
  };

  const asFolder = (path) => {
    if (path === null) return null;
    const found = manifest(path);
    const mains = [typeof found?.browser === 'string' ? found.browser : null, found?.main, found?.module];
    for (const main of mains) {
      if (typeof main !== 'string') continue;
      const target = asFile(join(path, main)) ?? asFile(join(path, main, 'index'));
      if (target) return target;
    }
    return asFile(join(path, 'index'));
  };

  // What a target of `exports` or `imports` comes to under the conditions; undefined if to nothing.
  const target = (value, star, conditions) => {
    if (typeof value === 'string') return value.replaceAll('*', star);
    if (Array.isArray(value)) {
      for (const item of value) {
        const found = target(item, star, conditions);
        if (found) return found;
      }
      return undefined;
    }
    if (value === null || typeof value !== 'object') return undefined;
    for (const [condition, inner] of Object.entries(value)) {
      if (!conditions.includes(condition)) continue;
      const found = target(inner, star, conditions);
      if (found !== undefined) return found;
    }
    return undefined;
  };

  const matched = (map, key, conditions) => {
    if (Object.hasOwn(map, key) && !key.includes('*')) return target(map[key], '', conditions);
    let best = null;
    for (const pattern of Object.keys(map)) {
      const at = pattern.indexOf('*');
      if (at < 0) continue;
      const [before, after] = [pattern.slice(0, at), pattern.slice(at + 1)];
      if (key.length < pattern.length || !key.startsWith(before) || !key.endsWith(after)) continue;
      if (!best || before.length > best.before.length) best = { pattern, before, after };
    }
    if (!best) return undefined;
    return target(map[best.pattern], key.slice(best.before.length, key.length - best.after.length), conditions);
  };

  const conditionsFor = (isRequire) => ['skein', 'worker', 'browser', isRequire ? 'require' : 'import', 'module-sync', 'default'];

  const missing = (name, base, why = '') => {
    const from = base ? ` (imported by ${base})` : '';
    return new ReferenceError(`cannot find '${name}'${from}${why}`);
  };

  const inPackage = (folder, sub, isRequire, name, base) => {
    const found = manifest(folder);
    if (found?.exports !== undefined && found.exports !== null) {
      const isMap = typeof found.exports === 'object' && !Array.isArray(found.exports) && Object.keys(found.exports).some((key) => key.startsWith('.'));
      const map = isMap ? found.exports : { '.': found.exports };
      const to = matched(map, sub === '' ? '.' : `./${sub}`, conditionsFor(isRequire));
      const path = to === undefined ? null : asFile(join(folder, to));
      if (!path) throw missing(name, base, `: the package's "exports" offer no such path`);
      return path;
    }
    const path = sub === '' ? asFolder(folder) : asFile(join(folder, sub)) ?? asFolder(join(folder, sub));
    if (!path) throw missing(name, base, ': the package has no such file');
    return path;
  };

  const bare = (name, base, isRequire) => {
    const parts = name.split('/');
    const packageName = parts.splice(0, name.startsWith('@') ? 2 : 1).join('/');
    const sub = parts.join('/');
    const [own, found] = packageOf(base);
    if (found && typeof found.browser === 'object' && found.browser && Object.hasOwn(found.browser, name)) {
      const to = found.browser[name];
      if (to === false) return 'skein:empty';
      return to.startsWith('.') ? asFile(join(own, to)) : bare(to, '', isRequire);
    }
    if (found?.name === packageName && found.exports) return inPackage(own, sub, isRequire, name, base);
    for (let folder = directory(base); ; folder = directory(folder)) {
      const candidate = join(folder, 'node_modules', packageName);
      if (folders[candidate]) return inPackage(candidate, sub, isRequire, name, base);
      if (folder === '') break;
    }
    if (BUILTIN.includes(packageName)) {
      throw missing(name, base, ': it is a part of Node.js, which Skein is not; docs/script.md says what there is instead');
    }
    throw missing(name, base, ': no such package in node_modules; relative files begin with ./ or ../');
  };

  library.resolvePath = (base, name, isRequire) => {
    if (name.startsWith('skein:')) throw missing(name, base);
    if (name.startsWith('node:')) {
      throw missing(name, base, ': it is a part of Node.js, which Skein is not; docs/script.md says what there is instead');
    }
    if (name.startsWith('#')) {
      const [folder, found] = packageOf(base);
      const to = matched(found?.imports ?? {}, name, conditionsFor(isRequire));
      if (to === undefined) throw missing(name, base, ': package.json\'s "imports" do not have it');
      return to.startsWith('.') ? asFile(join(folder, to)) ?? missing(name, base) : bare(to, base, isRequire);
    }
    let path;
    if (/^\.{0,2}\//.test(name) || name === '.' || name === '..') {
      const wanted = name.startsWith('/') ? join(name) : join(directory(base), name);
      path = asFile(wanted) ?? asFolder(wanted);
      if (!path) throw missing(name, base, ': no such file');
    } else {
      path = bare(name, base, isRequire);
    }
    return path === 'skein:empty' ? path : replaced(path);
  };
});
