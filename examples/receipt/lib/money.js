// Money in whole cents: sums of decimal fractions would be off.
export const cents = (amount) => {
  if (typeof amount !== 'number' || !(amount >= 0)) throw new TypeError(`a price is a number from 0 on, not ${amount}`);
  return Math.round(amount * 100);
};

export const share = (amount, percent) => Math.round((amount * percent) / 100);

export const shown = (amount) => (amount / 100).toFixed(2);
