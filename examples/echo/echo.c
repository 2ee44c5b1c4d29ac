// Returns its payload as it is: the smallest function there is, and the one benchmarks call.
//
//   skein publish examples/echo && skein invoke echo -d 'hello'
//   hello
//
// Locally, with no mesh: skein run examples/echo -d 'hello'

#include <stdio.h>
#include <unistd.h>

int main(void) {
    static char buffer[64 * 1024];
    for (;;) {
        ssize_t held = read(STDIN_FILENO, buffer, sizeof buffer);
        if (held < 0) {
            perror("echo: read");
            return 1;
        }
        if (held == 0) return 0;
        for (ssize_t sent = 0; sent < held;) {
            ssize_t step = write(STDOUT_FILENO, buffer + sent, (size_t)(held - sent));
            if (step < 0) {
                perror("echo: write");
                return 1;
            }
            sent += step;
        }
    }
}
