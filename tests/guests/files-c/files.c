// Works on files in every way that C has, and prints what it is told: the same in every engine.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static void say(const char *what, long result) {
  if (result < 0) printf("%s: %s\n", what, strerror(errno));
  else printf("%s: %ld\n", what, result);
}

static void show(const char *path) {
  struct stat st;
  if (lstat(path, &st) < 0) {
    printf("stat %s: %s\n", path, strerror(errno));
    return;
  }
  const char *kind = S_ISREG(st.st_mode) ? "file" : S_ISDIR(st.st_mode) ? "directory" : S_ISLNK(st.st_mode) ? "link" : "?";
  if (S_ISDIR(st.st_mode)) printf("stat %s: %s\n", path, kind);
  else printf("stat %s: %s, %lld bytes, %lu names\n", path, kind, (long long)st.st_size, (unsigned long)st.st_nlink);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// How many entries a directory has, and a checksum of their names.
static void list(const char *path) {
  static char *names[4096];
  size_t count = 0;
  DIR *dir = opendir(path);
  if (!dir) {
    printf("list %s: %s\n", path, strerror(errno));
    return;
  }
  for (struct dirent *entry; (entry = readdir(dir)) && count < 4096;) names[count++] = strdup(entry->d_name);
  rewinddir(dir);
  size_t again = 0;
  while (readdir(dir)) again++;
  closedir(dir);
  qsort(names, count, sizeof *names, by_name);
  unsigned sum = 0;
  for (size_t i = 0; i < count; i++)
    for (const char *c = names[i]; *c; c++) sum = sum * 31 + (unsigned char)*c;
  printf("list %s: %zu entries, %zu again, %08x\n", path, count, again, sum);
  for (size_t i = 0; i < count && count <= 12; i++) printf("  %s\n", names[i]);
}

static void write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  say(path, fd < 0 ? fd : write(fd, text, strlen(text)));
  if (fd >= 0) close(fd);
}

static void read_file(const char *path) {
  char text[200] = {0};
  int fd = open(path, O_RDONLY);
  long count = fd < 0 ? fd : read(fd, text, sizeof text - 1);
  if (count < 0) printf("read %s: %s\n", path, strerror(errno));
  else printf("read %s: '%s'\n", path, text);
  if (fd >= 0) close(fd);
}

static void contents(void) {
  write_file("plain", "hello, files");
  read_file("plain");
  int fd = open("plain", O_RDWR);
  say("seek to 7", lseek(fd, 7, SEEK_SET));
  say("write", write(fd, "FILES", 5));
  say("seek by -2", lseek(fd, -2, SEEK_CUR));
  say("seek before the start", lseek(fd, -100, SEEK_CUR));
  say("seek to the end", lseek(fd, 0, SEEK_END));
  say("seek past the end", lseek(fd, 10, SEEK_END));
  say("write there", write(fd, "!", 1));
  say("pwrite", pwrite(fd, "H", 1, 0));
  char byte = 0;
  say("pread", pread(fd, &byte, 1, 7));
  printf("byte '%c', position %ld\n", byte, (long)lseek(fd, 0, SEEK_CUR));
  // Engines may write the first buffer only; what they write is what they say.
  struct iovec parts[3] = {{"one ", 4}, {"", 0}, {"two", 3}};
  long written = writev(fd, parts, 3);
  printf("writev: %d\n", written == 4 || written == 7);
  say("truncate longer", ftruncate(fd, 100));
  say("truncate shorter", ftruncate(fd, 9));
  say("sync", fsync(fd));
  say("datasync", fdatasync(fd));
  say("close", close(fd));
  say("close again", close(fd));
  show("plain");
  read_file("plain");
  fd = open("plain", O_WRONLY | O_APPEND);
  say("append", write(fd, " appended", 9));
  say("rewind", lseek(fd, 0, SEEK_SET));
  say("append again", write(fd, ", twice", 7));
  printf("flags %s\n", fcntl(fd, F_GETFL) & O_APPEND ? "append" : "none");
  say("append no more", fcntl(fd, F_SETFL, 0));
  say("rewind", lseek(fd, 0, SEEK_SET));
  say("overwrite", write(fd, "J", 1));
  close(fd);
  read_file("plain");
  say("exclusive", open("plain", O_CREAT | O_EXCL | O_WRONLY, 0644));
  say("missing", open("missing", O_RDONLY));
  say("cut while opening", (fd = open("plain", O_RDWR | O_TRUNC)) < 0 ? -1 : 0);
  close(fd);
  show("plain");
}

static void big(void) {
  static char block[100000];
  int fd = open("big", O_RDWR | O_CREAT, 0644);
  for (int i = 0; i < 60; i++) {
    for (size_t j = 0; j < sizeof block; j++) block[j] = (char)(i * 7 + j * 13 + j / 251);
    if (write(fd, block, sizeof block) != sizeof block) say("write", -1);
  }
  lseek(fd, 0, SEEK_SET);
  unsigned sum = 0;
  long count, total = 0;
  while ((count = read(fd, block, 77777)) > 0) {
    for (long j = 0; j < count; j++) sum = sum * 31 + (unsigned char)block[j];
    total += count;
  }
  printf("big: %ld bytes, %08x\n", total, sum);
  say("hole", lseek(fd, 7000000, SEEK_SET));
  say("after it", write(fd, "end", 3));
  say("in it", pread(fd, block, 10, 6500000));
  printf("zeros: %d\n", block[0] | block[9]);
  close(fd);
  show("big");
}

static void tree(void) {
  say("mkdir", mkdir("dir", 0755));
  say("mkdir again", mkdir("dir", 0755));
  say("mkdir with a slash", mkdir("dir/sub/", 0755));
  say("mkdir below nothing", mkdir("no/sub", 0755));
  say("mkdir below a file", mkdir("plain/sub", 0755));
  write_file("dir/sub/file", "deep");
  write_file("dir/sub/../sub/./other", "deeper");
  list("dir/sub");
  say("rmdir full", rmdir("dir/sub"));
  say("rmdir a file", rmdir("plain"));
  say("unlink a directory", unlink("dir/sub"));
  say("rename", rename("dir/sub/file", "dir/moved"));
  say("rename over", rename("dir/sub/other", "dir/moved"));
  read_file("dir/moved");
  say("rename a directory", rename("dir/sub", "dir/under"));
  say("rename into itself", rename("dir", "dir/under/dir"));
  say("rename a directory over a file", rename("dir/under", "dir/moved"));
  say("rename a file over a directory", rename("dir/moved", "dir/under"));
  say("rename nothing", rename("nothing", "dir/x"));
  say("link", link("dir/moved", "dir/second"));
  say("link over", link("dir/moved", "plain"));
  say("link a directory", link("dir/under", "dir/third") < 0 ? -2 : 0);
  show("dir/second");
  say("unlink", unlink("dir/moved"));
  show("dir/second");
  int fd = open("dir/second", O_RDONLY);
  say("unlink while open", unlink("dir/second"));
  char text[10] = {0};
  say("read what has no name", read(fd, text, 9));
  puts(text);
  struct stat st;
  say("fstat", fstat(fd, &st));
  printf("%lu names\n", (unsigned long)st.st_nlink);
  close(fd);
  list("dir");
  list(".");
  list("plain");
}

static void links(void) {
  char target[64] = {0};
  say("symlink", symlink("dir/under", "to-under"));
  say("symlink to nothing", symlink("nowhere", "dangling"));
  say("symlink over", symlink("x", "dangling"));
  say("symlink out", symlink("/etc/passwd", "out") < 0 ? -2 : 0);
  say("readlink", readlink("to-under", target, sizeof target));
  puts(target);
  memset(target, 0, sizeof target);
  say("readlink cut", readlink("to-under", target, 3));
  puts(target);
  say("readlink of a file", readlink("plain", target, sizeof target));
  write_file("to-under/by-link", "through");
  read_file("dir/under/by-link");
  read_file("dangling");
  write_file("dangling", "no more");
  read_file("nowhere");
  say("open a link itself", open("to-under", O_RDONLY | O_NOFOLLOW));
  say("loop", symlink("loop", "loop"));
  read_file("loop");
  show("to-under");
  show("loop");
  say("unlink a link", unlink("to-under"));
  show("dir/under/by-link");
  say("out", open("../../../etc/passwd", O_RDONLY) < 0 ? -2 : 0);
}

static void times(void) {
  struct timespec when[2] = {{1000000000, 123456789}, {1100000000, 5}};
  struct stat st;
  say("utimensat", utimensat(AT_FDCWD, "plain", when, 0));
  stat("plain", &st);
  printf("%lld.%09ld %lld.%09ld\n", (long long)st.st_atim.tv_sec, st.st_atim.tv_nsec, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
  int fd = open("plain", O_RDWR);
  when[0].tv_nsec = UTIME_OMIT;
  when[1].tv_sec = 900000000;
  say("futimens", futimens(fd, when));
  fstat(fd, &st);
  printf("%lld %lld\n", (long long)st.st_atim.tv_sec, (long long)st.st_mtim.tv_sec);
  say("write", write(fd, "x", 1));
  fstat(fd, &st);
  printf("written later: %d\n", st.st_mtim.tv_sec > 1600000000);
  close(fd);
  when[0].tv_nsec = 0;
  say("of a link", utimensat(AT_FDCWD, "loop", when, AT_SYMLINK_NOFOLLOW));
  say("of nothing", utimensat(AT_FDCWD, "nothing", when, 0));
  say("of a directory", utimensat(AT_FDCWD, "dir", when, 0));
  stat("dir", &st);
  printf("%lld\n", (long long)st.st_mtim.tv_sec);
}

static void many(void) {
  char name[32];
  mkdir("many", 0755);
  for (int i = 0; i < 1500; i++) {
    snprintf(name, sizeof name, "many/a-rather-long-name-%04d", i);
    int fd = open(name, O_WRONLY | O_CREAT, 0644);
    if (fd < 0) say(name, fd);
    close(fd);
  }
  list("many");
  for (int i = 0; i < 1500; i += 2) {
    snprintf(name, sizeof name, "many/a-rather-long-name-%04d", i);
    if (unlink(name) < 0) say(name, -1);
  }
  list("many");
  for (int i = 1; i < 1500; i += 2) {
    snprintf(name, sizeof name, "many/a-rather-long-name-%04d", i);
    unlink(name);
  }
  say("rmdir", rmdir("many"));
  int fds[40];
  for (int i = 0; i < 40; i++) {
    snprintf(name, sizeof name, "handle-%d", i % 5);
    fds[i] = open(name, O_RDWR | O_CREAT, 0644);
    if (fds[i] < 0 || pwrite(fds[i], name, strlen(name), i) < 0) say(name, -1);
  }
  for (int i = 0; i < 40; i++) close(fds[i]);
  for (int i = 0; i < 5; i++) {
    snprintf(name, sizeof name, "handle-%d", i);
    show(name);
  }
}

// Removing what is being listed loses nothing. Not every engine can say that.
static void remove_while_listing(void) {
  char name[32];
  mkdir("listed", 0755);
  for (int i = 0; i < 1000; i++) {
    snprintf(name, sizeof name, "listed/a-rather-long-name-%04d", i);
    close(open(name, O_WRONLY | O_CREAT, 0644));
  }
  DIR *dir = opendir("listed");
  int removed = 0;
  for (struct dirent *entry; (entry = readdir(dir));) {
    if (entry->d_name[0] == '.') continue;
    snprintf(name, sizeof name, "listed/%.23s", entry->d_name);
    if (unlink(name) == 0) removed++;
  }
  closedir(dir);
  printf("removed %d\n", removed);
  say("rmdir", rmdir("listed"));
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "listing") == 0) {
    remove_while_listing();
    return 0;
  }
  printf("%d arguments, %s, %s\n", argc, argc > 1 ? argv[1] : "none", getenv("COLOUR") ? getenv("COLOUR") : "none");
  contents();
  big();
  tree();
  links();
  times();
  many();
  list(".");
  fflush(stdout);
  return argc > 2 ? atoi(argv[2]) : 0;
}
