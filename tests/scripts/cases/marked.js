import { lexer, marked } from 'marked';

const text = `# Title

Some *emphasis*, **strong**, \`code\` & <b>html</b>. [link](http://x.y "t") ![i](a.png)

| a | b |
|---|:-:|
| 1 | 2 |

- [x] done
- [ ] open
  1. nested

> quote
> more

\`\`\`js
let a = 1 < 2;
\`\`\`

Auto http://example.com and ~~gone~~.
`;

export default () => ({ html: marked.parse(text, { gfm: true }), inline: marked.parseInline('**a** _b_'), tokens: lexer(text).map((token) => token.type) });
