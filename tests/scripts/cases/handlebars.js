import Handlebars from 'handlebars';

Handlebars.registerHelper('loud', (text) => String(text).toUpperCase());
Handlebars.registerPartial('row', '<li>{{name}}{{#if price}}: {{price}}{{else}}: free{{/if}}</li>');
const page = Handlebars.compile('<h1>{{loud title}}</h1>{{{raw}}}{{escaped}}\n{{#each items}}{{@index}}{{> row}}{{/each}}{{#with owner}}{{name}}{{/with}}');

export default () => {
  let error;
  try {
    Handlebars.compile('{{#if a}}no end')({});
  } catch (thrown) {
    error = thrown.message;
  }
  return {
    html: page({ title: 'menu', raw: '<b>&</b>', escaped: '<b>&"\'', items: [{ name: 'tea', price: 2 }, { name: 'water' }], owner: { name: 'Ann' } }),
    precompiled: Handlebars.precompile('{{a.b}} {{#unless c}}d{{/unless}}').length,
    error,
  };
};
