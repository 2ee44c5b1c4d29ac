import { XMLBuilder, XMLParser, XMLValidator } from 'fast-xml-parser';

const text = `<?xml version="1.0"?><shop open="true"><!-- a comment --><item id="1" price="2.50">Tea &amp; milk</item>
<item id="2"><![CDATA[<b>Cake</b>]]></item><empty/><nested><a>1</a><a>2</a><a>x</a></nested></shop>`;

export default () => {
  const parsed = new XMLParser({ ignoreAttributes: false, cdataPropName: '#cdata' }).parse(text);
  return {
    parsed,
    ordered: new XMLParser({ preserveOrder: true, ignoreAttributes: false }).parse(text),
    built: new XMLBuilder({ ignoreAttributes: false, format: true, cdataPropName: '#cdata' }).build(parsed),
    valid: XMLValidator.validate(text),
    invalid: XMLValidator.validate('<a><b></a>'),
  };
};
