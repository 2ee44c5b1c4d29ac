// Checks the check digit of a number, such as a payment card's: an Extism plug-in in C with no kit, on Extism's documented
// functions alone.

#include <stdint.h>

#define EXTISM(name) __attribute__((import_module("extism:host/env"), import_name(#name))) extern
#define EXPORT(name) __attribute__((export_name(#name)))

EXTISM(input_length) uint64_t input_length(void);
EXTISM(input_load_u8) uint8_t input_load_u8(uint64_t offset);
EXTISM(alloc) uint64_t alloc(uint64_t length);
EXTISM(store_u8) void store_u8(uint64_t at, uint8_t byte);
EXTISM(output_set) void output_set(uint64_t at, uint64_t length);
EXTISM(error_set) void error_set(uint64_t at);

// A block with a text in it, and the length of the text.
static uint64_t block(const char *text, uint64_t *length) {
  for (*length = 0; text[*length] != '\0'; ++*length) {
  }
  uint64_t at = alloc(*length);
  for (uint64_t i = 0; i < *length; i++) {
    store_u8(at + i, (uint8_t)text[i]);
  }
  return at;
}

static int32_t fail(const char *text) {
  uint64_t length;
  error_set(block(text, &length));
  return 1;
}

EXPORT(handle) int32_t handle(void) {
  int sum = 0, digits = 0;
  // From the last digit on, every second one counts twice.
  for (uint64_t i = input_length(); i-- > 0;) {
    uint8_t letter = input_load_u8(i);
    if (letter == ' ' || letter == '-' || letter == '\n') {
      continue;
    }
    if (letter < '0' || letter > '9') {
      return fail("only digits, spaces and hyphens make a number");
    }
    int value = (letter - '0') << (digits++ & 1);
    sum += value > 9 ? value - 9 : value;
  }
  if (digits < 2) {
    return fail("a number with a check digit has two digits or more");
  }
  uint64_t length;
  uint64_t at = block(sum % 10 == 0 ? "valid\n" : "invalid\n", &length);
  output_set(at, length);
  return 0;
}
