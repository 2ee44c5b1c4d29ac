// A receipt for an order, in JavaScript that is published as source.
//
//   skein publish examples/receipt
//   skein invoke receipt -f examples/receipt/input.json      # prints what expected.json has
import { cents, share, shown } from './lib/money.js';

const RATES = { food: 7, books: 7, other: 19 };

export default (order, ctx) => {
  if (!Array.isArray(order?.lines) || order.lines.length === 0) throw new TypeError('an order has lines');
  const lines = order.lines.map(({ name, price, count = 1, kind = 'other' }, at) => {
    if (!(kind in RATES)) throw new RangeError(`line ${at + 1}: no tax is known for '${kind}'`);
    return { name, count, rate: RATES[kind], gross: cents(price) * count };
  });
  const gross = lines.reduce((sum, line) => sum + line.gross, 0);
  const discount = share(gross, order.discount ?? 0);
  const rates = [...new Set(lines.map((line) => line.rate))].sort((a, b) => a - b);
  const taxes = rates.map((rate) => {
    const taxed = lines.filter((line) => line.rate === rate).reduce((sum, line) => sum + line.gross, 0);
    const paid = taxed - share(taxed, order.discount ?? 0);
    return { rate: `${rate} %`, tax: shown(paid - Math.round((paid * 100) / (100 + rate))) };
  });
  ctx.log(`${lines.length} lines for ${order.customer ?? 'nobody'}`);
  return {
    customer: order.customer,
    lines: lines.map(({ name, count, gross: sum }) => ({ name, count, sum: shown(sum) })),
    discount: shown(discount),
    taxes,
    total: shown(gross - discount),
  };
};
