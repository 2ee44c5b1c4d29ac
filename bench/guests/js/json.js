export default (input) => ({
  greeting: `hello ${input.name}`,
  count: input.values.length,
  sum: input.values.reduce((sum, value) => sum + value, 0),
});
