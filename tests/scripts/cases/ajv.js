import Ajv from 'ajv';

const schema = {
  type: 'object',
  properties: {
    id: { type: 'integer', minimum: 1 },
    mail: { type: 'string', pattern: '^[^@]+@[^@]+$' },
    tags: { type: 'array', items: { type: 'string' }, uniqueItems: true, maxItems: 3 },
    child: { $ref: '#' },
  },
  required: ['id'],
  additionalProperties: false,
  if: { required: ['mail'] },
  then: { required: ['tags'] },
};
const validate = new Ajv({ allErrors: true }).compile(schema);
const inputs = [{ id: 1 }, { id: 0 }, { id: 2, mail: 'x' }, { id: 3, tags: ['a', 'a'] }, { id: 4, child: { id: 'x', more: 1 } }, []];

export default () => inputs.map((input) => ({ isValid: validate(input), errors: validate.errors }));
