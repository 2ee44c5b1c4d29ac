import Papa from 'papaparse';

export default () => {
  const parsed = Papa.parse('name,price,note\ntea,2,"a ""quoted"" note"\ncake,3.5,"two\nlines"\n\nbad,row\n', { header: true, dynamicTyping: true, skipEmptyLines: true });
  return { data: parsed.data, errors: parsed.errors, meta: parsed.meta, text: Papa.unparse(parsed.data), guessed: Papa.parse('a;b\n1;2').meta.delimiter };
};
