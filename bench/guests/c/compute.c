// Compute-bound kernels. Reads "NAME N" and prints a checksum, so that no compiler may leave the work out.
// The same file is compiled to WebAssembly and natively; natively it also prints the nanoseconds it took, to stderr.
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#ifndef __wasm__
#include <time.h>
#endif

#define NOINLINE __attribute__((noinline))

// Calls and returns.
NOINLINE static uint64_t fib(uint64_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

// A loop that touches no memory.
static uint64_t xorshift(uint64_t n) {
  uint64_t x = 88172645463325252ull;
  while (n--) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
  }
  return x;
}

// A loop that stores.
static uint64_t sieve(uint64_t rounds) {
  static uint8_t is_composite[1 << 20];
  uint64_t primes = 0;
  while (rounds--) {
    memset(is_composite, 0, sizeof is_composite);
    for (uint32_t i = 2; i < sizeof is_composite; i++) {
      if (is_composite[i]) continue;
      primes++;
      for (uint32_t j = 2 * i; j < sizeof is_composite; j += i) is_composite[j] = 1;
    }
  }
  return primes;
}

// Floating point in nested loops.
static uint64_t matmul(uint64_t rounds) {
  enum { SIDE = 160 };
  static double a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];
  for (int i = 0; i < SIDE; i++)
    for (int j = 0; j < SIDE; j++) a[i][j] = i + 0.5 * j, b[i][j] = i - 0.25 * j, c[i][j] = 0;
  while (rounds--)
    for (int i = 0; i < SIDE; i++)
      for (int k = 0; k < SIDE; k++)
        for (int j = 0; j < SIDE; j++) c[i][j] += a[i][k] * b[k][j];
  uint64_t sum = 0;
  for (int i = 0; i < SIDE; i++) sum += (uint64_t)(int64_t)c[i][SIDE - 1 - i];
  return sum;
}

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }

NOINLINE static void sha256_block(uint32_t state[8], const uint8_t *block) {
  uint32_t w[64], s[8];
  for (int i = 0; i < 16; i++)
    w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
  for (int i = 16; i < 64; i++) {
    uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
    uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  memcpy(s, state, sizeof s);
  for (int i = 0; i < 64; i++) {
    uint32_t e = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
    uint32_t one = s[7] + e + ((s[4] & s[5]) ^ (~s[4] & s[6])) + K[i] + w[i];
    uint32_t a = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
    uint32_t two = a + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    memmove(s + 1, s, 7 * sizeof *s);
    s[4] += one;
    s[0] = one + two;
  }
  for (int i = 0; i < 8; i++) state[i] += s[i];
}

// A hash kernel: 64 KiB each round.
static uint64_t sha256(uint64_t rounds) {
  static uint8_t data[1 << 16];
  uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 31);
  while (rounds--)
    for (size_t at = 0; at < sizeof data; at += 64) sha256_block(state, data + at);
  return (uint64_t)state[0] << 32 | state[7];
}

static int ascending(const uint32_t *a, const uint32_t *b) { return (*a > *b) - (*a < *b); }
static int descending(const uint32_t *a, const uint32_t *b) { return ascending(b, a); }

NOINLINE static void quicksort(uint32_t *from, uint32_t *to, int (*order)(const uint32_t *, const uint32_t *)) {
  while (to - from > 1) {
    uint32_t pivot = from[(to - from - 1) / 2], *low = from - 1, *high = to;
    for (;;) {
      do low++;
      while (order(low, &pivot) < 0);
      do high--;
      while (order(high, &pivot) > 0);
      if (low >= high) break;
      uint32_t swapped = *low;
      *low = *high;
      *high = swapped;
    }
    quicksort(from, high + 1, order);
    from = high + 1;
  }
}

// Calls by function pointer.
static uint64_t sort(uint64_t rounds) {
  enum { COUNT = 100000 };
  static uint32_t numbers[COUNT];
  uint64_t sum = 0;
  while (rounds--) {
    uint32_t seed = (uint32_t)rounds + 1;
    for (int i = 0; i < COUNT; i++) numbers[i] = seed = seed * 1664525 + 1013904223;
    quicksort(numbers, numbers + COUNT, rounds & 1 ? ascending : descending);
    sum += numbers[COUNT / 3];
  }
  return sum;
}

// A register machine, interpreted: the longest Collatz sequence below N.
static uint64_t interpret(uint64_t n) {
  enum { MOVE, SET, ADD, HALVE, TRIPLE, IS_ODD, BELOW, JUMP, JUMP_IF, HALT };
  struct Instruction { uint8_t op, a, b, c; };
  static const struct Instruction program[] = {
      {SET, 1, 1, 0},       // 0: start = 1
      {BELOW, 2, 1, 0},     // 1: while start < n
      {JUMP_IF, 2, 4, 0},   // 2
      {HALT, 0, 0, 0},      // 3
      {MOVE, 3, 1, 0},      // 4: value = start
      {SET, 4, 0, 0},       // 5: length = 0
      {BELOW, 2, 7, 3},     // 6: while 1 < value
      {JUMP_IF, 2, 9, 0},   // 7
      {JUMP, 14, 0, 0},     // 8
      {ADD, 4, 4, 7},       // 9: length += 1
      {IS_ODD, 2, 3, 0},    // 10
      {JUMP_IF, 2, 18, 0},  // 11
      {HALVE, 3, 3, 0},     // 12
      {JUMP, 6, 0, 0},      // 13
      {BELOW, 2, 5, 4},     // 14: if best < length
      {JUMP_IF, 2, 20, 0},  // 15
      {ADD, 1, 1, 7},       // 16: start += 1
      {JUMP, 1, 0, 0},      // 17
      {TRIPLE, 3, 3, 0},    // 18: value = 3 value + 1
      {JUMP, 6, 0, 0},      // 19
      {MOVE, 5, 4, 0},      // 20: best = length
      {JUMP, 16, 0, 0},     // 21
  };
  uint64_t r[8] = {n, 0, 0, 0, 0, 0, 0, 1};
  const struct Instruction *at = program;
  for (;;) {
    struct Instruction i = *at++;
    switch (i.op) {
      case MOVE: r[i.a] = r[i.b]; break;
      case SET: r[i.a] = i.b; break;
      case ADD: r[i.a] = r[i.b] + r[i.c]; break;
      case HALVE: r[i.a] = r[i.b] >> 1; break;
      case TRIPLE: r[i.a] = 3 * r[i.b] + 1; break;
      case IS_ODD: r[i.a] = r[i.b] & 1; break;
      case BELOW: r[i.a] = r[i.b] < r[i.c]; break;
      case JUMP: at = program + i.a; break;
      case JUMP_IF: if (r[i.a]) at = program + i.b; break;
      default: return r[5];
    }
  }
}

// A scanner of JSON as a state machine: one jump table, many turns.
static uint64_t scan(uint64_t rounds) {
  static const char part[] = "{\"id\": 12045, \"tags\": [\"a\\\"b\", \"long text\"], \"ok\": true, \"ratio\": -1.5e3},\n";
  static char text[1 << 16];
  for (size_t i = 0; i < sizeof text; i++) text[i] = part[i % (sizeof part - 1)];
  enum { BETWEEN, STRING, ESCAPE, NUMBER, WORD } state = BETWEEN;
  uint64_t tokens = 0, depth = 0, sum = 0;
  while (rounds--) {
    for (size_t i = 0; i < sizeof text; i++) {
      char c = text[i];
      switch (state) {
        case STRING: state = c == '"' ? BETWEEN : c == '\\' ? ESCAPE : STRING; break;
        case ESCAPE: state = STRING; break;
        case NUMBER:
          if ((c >= '0' && c <= '9') || c == '.' || c == 'e' || c == '-') { sum += (uint64_t)(c & 15); break; }
          state = BETWEEN; /* fall through */
        case WORD:
          if (state == WORD && c >= 'a' && c <= 'z') break;
          state = BETWEEN; /* fall through */
        case BETWEEN:
          switch (c) {
            case '"': state = STRING; tokens++; break;
            case '{': case '[': depth++; tokens++; break;
            case '}': case ']': depth--; tokens++; break;
            case '-': case '0': case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9':
              state = NUMBER; tokens++; break;
            case 't': case 'f': case 'n': state = WORD; tokens++; break;
            default: break;
          }
      }
    }
  }
  return tokens * 1000003 + sum + depth;
}

static const struct { const char *name; uint64_t (*run)(uint64_t); } kernels[] = {
    {"fib", fib},   {"xorshift", xorshift},   {"sieve", sieve}, {"matmul", matmul},
    {"sha256", sha256}, {"sort", sort}, {"interpret", interpret}, {"scan", scan},
};

int main(void) {
  char line[64] = {0};
  if (read(0, line, sizeof line - 1) <= 0) return 2;
  char *number = strchr(line, ' ');
  if (!number) return 2;
  *number++ = 0;
  uint64_t n = 0;
  for (; *number >= '0' && *number <= '9'; number++) n = n * 10 + (uint64_t)(*number - '0');
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
    if (strcmp(kernels[i].name, line)) continue;
#ifndef __wasm__
    struct timespec begin, end;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
#endif
    uint64_t sum = kernels[i].run(n);
    char text[21];
    size_t at = sizeof text;
#ifndef __wasm__
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    uint64_t took = (uint64_t)(end.tv_sec - begin.tv_sec) * 1000000000u + (uint64_t)(end.tv_nsec - begin.tv_nsec);
    do text[--at] = (char)('0' + took % 10);
    while (took /= 10);
    if (write(2, text + at, sizeof text - at) < 0) return 1;
    at = sizeof text;
#endif
    do text[--at] = (char)('0' + sum % 10);
    while (sum /= 10);
    return write(1, text + at, sizeof text - at) < 0;
  }
  return 2;
}
