// URL and URLSearchParams: each address with each of its parts.
const addresses = [
  'http://example.com', 'HTTP://User:Pa%20ss@EXAMPLE.com:80/a/./b/../c?q=1&q=2#frag', 'https://example.com:8443/%7Efoo/ä?ö=ü#ß',
  'file:///C:/a/../b', 'file://localhost/etc/x', 'file:c:\\a\\b', 'mailto:a@b.c?subject=x y', 'data:text/plain,hello world', 'blob:https://a.b/c-d',
  'http://[2001:DB8:0:0:0:0:0:1]:80/', 'http://[::1]', 'http://[::ffff:1.2.3.4]/', 'http://0x7f.1/', 'http://256.1.1.1', 'http://1.2.3', 'http://2130706433/', 'http://a.b.1.2.3.4.5/',
  'http://exa mple.com', 'http://', 'http:///x', 'https:example.org/a', 'https:/example.org', '//no-base', 'relative', '', 'http://a:b:c', 'http://a:65536', 'http://a:00080/',
  'ws://host:80/p?q', 'ftp://h:21/', 'foo://Bar:80/A/../B?C#D', 'foo:bar/baz', 'foo:/a//b', 'javascript:alert(1)', 'http://h/%zz%41?%zz=%41', 'http://h/a\\b?c\\d', ' \thttp://h/\n x ',
  'http://bücher.example/', 'http://faß.example/', 'http://日本語.jp/テスト', 'http://xn--bcher-kva.example', 'http://ｅｘａｍｐｌｅ.com', 'http://a_b.c-/', 'http://%65xample.com', 'http://a%2fb',
  'http://h?', 'http://h#', 'http://h/?#', 'http://user@/x', 'http://@h/', 'http://a@b@c/', 'http://h/;a=1,b', 'http://h/"<>`{}|', "http://h/?a='b'", "foo://h/?a='b'", 'http://h/#`<>"', 'non-special://[::1]/x', 'foo://h\\x',
];
const relatives = ['', '.', '..', '../..', '../../../x', './a/./b', '/abs?x', '//other/p', '?only', '#only', 'g;x=1/../y', 'http:g', 'http:/g', 'https:g', 'a:b', '\\back\\slash', 'x%20y z', '///three', '..%2f', '%2e%2e/x', '%2E/', 'C|/x'];
const bases = ['http://a/b/c/d;p?q#f', 'https://h', 'file:///a/b/c', 'foo://h/a/b/c', 'mailto:x'];
const names = ['href', 'origin', 'protocol', 'username', 'password', 'host', 'hostname', 'port', 'pathname', 'search', 'hash'];
const shown = (...parts) => {
  try {
    const url = new URL(...parts);
    return names.map((name) => url[name]).join(' | ') + ' | ' + [...url.searchParams].join(';');
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
};
const changes = [
  ['protocol', 'https'], ['protocol', 'foo:'], ['protocol', 'ws'], ['username', 'a b:'], ['password', 'ä@'], ['host', 'x:99'], ['host', 'x/y'], ['host', ''], ['hostname', 'b:1'], ['hostname', '[::2]'], ['port', '443'], ['port', '80'], ['port', ''],
  ['port', '9x'], ['port', 'x'], ['port', '99999'], ['pathname', 'no/slash'], ['pathname', '/a/../b?c#d'], ['pathname', ''], ['search', '?a=b c'], ['search', ''], ['search', "'#"], ['hash', 'x y'], ['hash', ''], ['href', 'http://new/'],
];

export default () => {
  const params = new URLSearchParams('?a=1&b=%20+x&a=2&=e&f&%zz=ä&c=d=e');
  const before = params.toString();
  params.append('n ew', 'v&=+~*!\'()');
  params.delete('b');
  params.set('a', '3');
  params.sort();
  const linked = new URL('http://h/?x=1');
  linked.searchParams.append('y', '2 3');
  const both = linked.href;
  linked.search = '?z=9';
  return {
    absolute: addresses.map((address) => `${address} -> ${shown(address)}`),
    relative: bases.flatMap((base) => relatives.map((relative) => `${relative} at ${base} -> ${shown(relative, base)}`)),
    changed: ['http://u:p@h:81/p?q#f', 'foo://h/p', 'file:///p'].flatMap((start) =>
      changes.map(([name, value]) => {
        const url = new URL(start);
        try {
          url[name] = value;
        } catch (error) {
          return `${start} ${name}=${value}: ${error.name}`;
        }
        return `${start} ${name}=${value}: ${url.href}`;
      }),
    ),
    params: [before, params.toString(), [...params], params.get('a'), params.getAll('none'), params.has('c', 'd=e'), params.size],
    linked: [both, linked.searchParams.get('z'), [...linked.searchParams.keys()]],
    made: [new URLSearchParams({ a: 1, b: [2, 3] }), new URLSearchParams([['x', 'y']]), new URLSearchParams(new Map([['m', 'n']]))].map(String),
    static: [URL.canParse('x:'), URL.canParse('nope'), JSON.stringify({ u: new URL('http://h') })],
  };
};
