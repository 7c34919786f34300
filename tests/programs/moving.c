/* A process whose memory does not hold still.

   moving replaced FILE   maps page after page of FILE at one address; each page holds its own number
   moving moved           a page full of one word comes to an address and goes away again, never empty
   moving churn N         N pages, each full of its own number, are unmapped and mapped again in no order
   moving split N         N pages of shared memory that another process has written, each full of its own number; the
                          mapping is cut in pieces, and becomes one again
   moving still WORD      one page full of WORD; on SIGUSR1 executes itself with WORD + 1
   moving vfork           the same page as "still 1"; a vfork(2)'s child prints its pid, and when a line comes from
                          stdin, executes "still 2"
   moving many N          N mappings of one page that do not become one
   moving dropped N       N pages, each full of its own number; on SIGUSR1 they are registered with a userfaultfd
                          that nobody serves, and go one after the other

   Prints "at ADDRESS SIZE" in hex, and "ready". */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define WHERE ((char *)0x123400000000)

enum { RW = PROT_READ | PROT_WRITE, ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS };

static char **self;
static long word;

static void fill(void *page, uint64_t value)
{
    for (size_t i = 0; i < PAGE / 8; i++)
        ((volatile uint64_t *)page)[i] = value;
}

static char *at(char *where, size_t size, int flags, int fd, off_t offset)
{
    char *p = mmap(where, size, RW, flags | MAP_FIXED, fd, offset);
    if (p != where) {
        perror("mmap");
        exit(1);
    }
    return p;
}

static void ready(size_t size)
{
    printf("at %lx %lx\nready\n", (unsigned long)WHERE, size);
    fflush(stdout);
}

static void replaced(const char *file)
{
    int fd = open(file, O_RDWR);
    off_t size = lseek(fd, 0, SEEK_END);
    at(WHERE, PAGE, MAP_PRIVATE, fd, 0);
    ready(PAGE);
    for (off_t offset = 0;; offset = (offset + PAGE) % size) {
        at(WHERE, PAGE, MAP_PRIVATE, fd, offset);
        usleep(300);
    }
}

static void moved(void)
{
    char *other = WHERE + (1 << 20);
    fill(at(WHERE, PAGE, ANONYMOUS, -1, 0), 0x5ec3e7);
    ready(PAGE);
    for (;;) {
        mremap(WHERE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other);
        mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, WHERE);
    }
}

static void churn(size_t count)
{
    for (size_t i = 0; i < count; i++)
        fill(at(WHERE + 2 * i * PAGE, PAGE, ANONYMOUS, -1, 0), i + 1);
    ready(2 * count * PAGE);
    for (uint64_t random = 1;;) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t i = (random >> 33) % count;
        munmap(WHERE + 2 * i * PAGE, PAGE);
        fill(at(WHERE + 2 * i * PAGE, PAGE, ANONYMOUS, -1, 0), i + 1);
    }
}

static void split(size_t count)
{
    char *p = mmap(WHERE, count * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    pid_t child = fork();
    if (!child) {
        for (size_t i = 0; i < count; i++)
            fill(p + i * PAGE, i + 1);
        _exit(0);
    }
    waitpid(child, 0, 0);
    ready(count * PAGE);
    for (size_t i = 0;; i = (i + 7) % (count - 4)) {
        mprotect(p + i * PAGE, 4 * PAGE, PROT_READ);
        mprotect(p + i * PAGE, 4 * PAGE, RW);
    }
}

static void again(int signal)
{
    char next[32];
    (void)signal;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, 0);
    snprintf(next, sizeof next, "%ld", word + 1);
    execl("/proc/self/exe", self[0], "still", next, (char *)0);
    _exit(1);
}

static void still(long value)
{
    word = value;
    signal(SIGUSR1, again);
    fill(at(WHERE, PAGE, ANONYMOUS, -1, 0), value);
    ready(PAGE);
    for (;;)
        pause();
}

static void with_vfork(void)
{
    char line[32];
    fill(at(WHERE, PAGE, ANONYMOUS, -1, 0), 1);
    if (!vfork()) {
        int size = snprintf(line, sizeof line, "pid %d\nready\n", getpid());
        if (write(1, line, size) != size || read(0, line, 1) != 1)
            _exit(1);
        execl("/proc/self/exe", self[0], "still", "2", (char *)0);
        _exit(1);
    }
    for (;;)
        pause();
}

static void many(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *p = at(WHERE + i * PAGE, PAGE, ANONYMOUS, -1, 0);
        fill(p, i + 1);
        if (i % 2)
            mprotect(p, PAGE, PROT_READ);
    }
    ready(count * PAGE);
    for (;;)
        pause();
}

static void dropped(size_t count)
{
    char *p = at(WHERE, count * PAGE, ANONYMOUS, -1, 0);
    madvise(p, count * PAGE, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < count; i++)
        fill(p + i * PAGE, i + 1);
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register all = {.range = {(unsigned long)p, count * PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api)) {
        perror("userfaultfd");
        exit(1);
    }
    sigset_t told;
    int number;
    sigemptyset(&told);
    sigaddset(&told, SIGUSR1);
    sigprocmask(SIG_BLOCK, &told, 0);
    ready(count * PAGE);
    sigwait(&told, &number);
    if (ioctl(fd, UFFDIO_REGISTER, &all)) {
        perror("UFFDIO_REGISTER");
        exit(1);
    }
    for (size_t i = 0;; i = (i + 7919) % count) {
        madvise(p + i * PAGE, PAGE, MADV_DONTNEED);
        usleep(500);
    }
}

int main(int argc, char **argv)
{
    self = argv;
    prctl(PR_SET_PDEATHSIG, 9);
    if (argc > 2 && !strcmp(argv[1], "replaced"))
        replaced(argv[2]);
    else if (argc > 1 && !strcmp(argv[1], "moved"))
        moved();
    else if (argc > 2 && !strcmp(argv[1], "churn"))
        churn(atol(argv[2]));
    else if (argc > 2 && !strcmp(argv[1], "split"))
        split(atol(argv[2]));
    else if (argc > 2 && !strcmp(argv[1], "still"))
        still(atol(argv[2]));
    else if (argc > 1 && !strcmp(argv[1], "vfork"))
        with_vfork();
    else if (argc > 2 && !strcmp(argv[1], "many"))
        many(atol(argv[2]));
    else if (argc > 2 && !strcmp(argv[1], "dropped"))
        dropped(atol(argv[2]));
    return 2;
}
