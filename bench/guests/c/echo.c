// Gives back what it gets. Built as a command (main) and, with -DREACTOR, as a reactor that exports `handle`.
#include <unistd.h>

static char buffer[65536];

static int echo(void) {
  ssize_t got;
  while ((got = read(0, buffer, sizeof buffer)) > 0) {
    for (ssize_t done = 0; done < got;) {
      ssize_t put = write(1, buffer + done, (size_t)(got - done));
      if (put < 0) return 1;
      done += put;
    }
  }
  return got < 0;
}

#ifdef REACTOR
__attribute__((export_name("handle"))) int handle(void) { return echo(); }
#else
int main(void) { return echo(); }
#endif
