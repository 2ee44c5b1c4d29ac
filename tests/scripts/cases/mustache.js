import mustache from 'mustache';

const view = { title: 'Shop', items: [{ name: 'tea', price: 2 }, { name: '<cake>', price: 3.5 }], none: [], total() { return this.items.reduce((sum, item) => sum + item.price, 0); }, bold: () => (text, render) => `<b>${render(text)}</b>` };

export default () => ({
  html: mustache.render('{{title}}{{#items}}\n- {{name}} {{{name}}} {{price}}{{/items}}{{^none}} nothing{{/none}} {{total}} {{#bold}}{{title}}{{/bold}}{{! gone }}{{> part}}', view, { part: '[{{title}}]' }),
  delimiters: mustache.render('{{=<% %>=}}<% title %>', view),
  parsed: mustache.parse('{{a}} {{#b}}c{{/b}}'),
});
