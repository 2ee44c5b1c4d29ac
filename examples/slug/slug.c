// Turns a text into the part of a URL that names it: lower case, Latin accents folded, the rest one dash.
//
//   skein publish examples/slug && skein invoke slug -d 'Crème Brûlée & Café: 10 façons, déjà vu!'
//   creme-brulee-cafe-10-facons-deja-vu
//
// Exit code 1 with a message on stderr: text that is not UTF-8, too long, or without a letter or digit.

#include <stdio.h>
#include <string.h>

enum { TEXT_BYTES_MAX = 64 * 1024 };

// U+00C0 to U+00FF, the letters of the Latin-1 supplement, in order; "" where there is no letter.
static const char *const FOLDED[64] = {
    "a", "a", "a", "a", "a", "a", "ae", "c", "e", "e", "e", "e", "i", "i", "i", "i",
    "d", "n", "o", "o", "o", "o", "o", "",   "o", "u", "u", "u", "u", "y", "th", "ss",
    "a", "a", "a", "a", "a", "a", "ae", "c", "e", "e", "e", "e", "i", "i", "i", "i",
    "d", "n", "o", "o", "o", "o", "o", "",   "o", "u", "u", "u", "u", "y", "th", "y",
};

// Length of the UTF-8 sequence at `text`, 0 if it is not one. `left` is at least 1.
static size_t sequence(const unsigned char *text, size_t left) {
    size_t length = text[0] < 0x80                        ? 1
                    : text[0] >= 0xC2 && text[0] <= 0xDF ? 2
                    : (text[0] & 0xF0) == 0xE0           ? 3
                    : text[0] >= 0xF0 && text[0] <= 0xF4 ? 4
                                                         : 0;
    if (length > left) return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xC0) != 0x80) return 0;
    return length;
}

// What the sequence of `length` bytes becomes; "" for anything but letters and digits. `one` is the room for it.
static const char *folded(const unsigned char *text, size_t length, char one[2]) {
    one[0] = one[1] = 0;
    if (length == 2 && text[0] == 0xC3) return FOLDED[text[1] - 0x80];
    if (length != 1) return "";
    char c = (char)text[0];
    if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) one[0] = c;
    return one;
}

int main(void) {
    static unsigned char text[TEXT_BYTES_MAX + 1];
    size_t bytes = fread(text, 1, sizeof text, stdin);
    if (bytes > TEXT_BYTES_MAX) {
        fprintf(stderr, "slug: the text is longer than %d bytes\n", TEXT_BYTES_MAX);
        return 1;
    }
    static char slug[2 * TEXT_BYTES_MAX + 1];  // no sequence becomes more than its own length plus a dash
    size_t used = 0;
    int is_apart = 0;
    for (size_t at = 0; at < bytes;) {
        size_t length = sequence(text + at, bytes - at);
        if (length == 0) {
            fprintf(stderr, "slug: byte %zu is not valid UTF-8\n", at);
            return 1;
        }
        char one[2];
        const char *next = folded(text + at, length, one);
        if (*next && is_apart && used) slug[used++] = '-';
        is_apart = *next == 0;
        while (*next) slug[used++] = *next++;
        at += length;
    }
    if (used == 0) {
        fputs("slug: there is no letter or digit in the text\n", stderr);
        return 1;
    }
    slug[used++] = '\n';
    return fwrite(slug, 1, used, stdout) == used ? 0 : 1;
}
