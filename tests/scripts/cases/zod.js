import { z } from 'zod';

const order = z.object({
  id: z.uuid(),
  mail: z.email().optional(),
  lines: z.array(z.object({ name: z.string().trim().min(1), count: z.number().int().positive().default(1) })).nonempty(),
  kind: z.discriminatedUnion('type', [z.object({ type: z.literal('gift'), text: z.string() }), z.object({ type: z.literal('plain') })]),
});
const inputs = [
  { id: '6ba7b810-9dad-11d1-80b4-00c04fd430c8', lines: [{ name: ' tea ' }], kind: { type: 'plain' } },
  { id: 'x', mail: 'no', lines: [], kind: { type: 'gift' } },
  { lines: [{ name: '', count: 1.5 }], kind: { type: 'other' } },
];

export default () => ({ results: inputs.map((input) => order.safeParse(input)).map((result) => (result.success ? result.data : result.error.issues)), schema: z.toJSONSchema(order) });
