// JSON in, JSON out: {"name":"Ada","values":[3,1,4]} gives {"greeting":"hello Ada","count":3,"sum":8}.
// Built twice: as a command (main) and, with -DREACTOR, as a reactor that exports `handle`.
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define INPUT_MAX 65536

static char input[INPUT_MAX + 1];
static char output[256];

static size_t read_all(void) {
  size_t length = 0;
  while (length < INPUT_MAX) {
    ssize_t got = read(0, input + length, INPUT_MAX - length);
    if (got <= 0) break;
    length += (size_t)got;
  }
  input[length] = 0;
  return length;
}

static char *put(char *at, const char *text, size_t length) {
  memcpy(at, text, length);
  return at + length;
}

static char *put_number(char *at, uint64_t number) {
  char digits[20];
  size_t count = 0;
  do digits[count++] = (char)('0' + number % 10);
  while (number /= 10);
  while (count) *at++ = digits[--count];
  return at;
}

// After the value's opening character, or NULL.
static const char *value_of(const char *key, char opening) {
  const char *at = strstr(input, key);
  at = at ? strchr(at + strlen(key), ':') : NULL;
  at = at ? strchr(at, opening) : NULL;
  return at ? at + 1 : NULL;
}

static int answer(void) {
  read_all();
  const char *name = value_of("\"name\"", '"');
  const char *values = value_of("\"values\"", '[');
  const char *end = name ? strchr(name, '"') : NULL;
  if (!end || !values || end - name > 100) return 1;
  uint64_t count = 0, sum = 0;
  for (const char *at = values; *at && *at != ']'; at++) {
    if (*at < '0' || *at > '9') continue;
    uint64_t number = 0;
    for (; *at >= '0' && *at <= '9'; at++) number = number * 10 + (uint64_t)(*at - '0');
    sum += number;
    count++;
    at--;
  }
  char *at = put(output, "{\"greeting\":\"hello ", 19);
  at = put(at, name, (size_t)(end - name));
  at = put(at, "\",\"count\":", 10);
  at = put_number(at, count);
  at = put(at, ",\"sum\":", 7);
  at = put_number(at, sum);
  *at++ = '}';
  return write(1, output, (size_t)(at - output)) < 0;
}

#ifdef REACTOR
__attribute__((export_name("handle"))) int handle(void) { return answer(); }
#else
int main(void) { return answer(); }
#endif
