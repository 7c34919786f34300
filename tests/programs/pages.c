/* A process with pages in every state that a page can be in.

   pages DIRECTORY [swap] [hugetlb] [plain]

   Prints a line for each range and sleeps: NAME ADDRESS SIZE STATE EVEN ODD FIRST, numbers in hex. STATE is what is to
   be known of it without touching it: data, zero, absent, gap. Page number i of the range (its first one is FIRST) is
   filled with pairs of 64-bit words (EVEN or ODD, i), whichever i is; with zeros where that word is 0. What this
   machine does not have is said: "lacks NAME REASON". "swap" and "hugetlb" say that it has those;
   "plain" leaves out the mapping of 1 TiB and the userfaultfd, with which other tools do not come to an end. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
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
#define MIB (1UL << 20)
#define SIZE MIB

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

enum { RW = PROT_READ | PROT_WRITE, PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS, SHARED = MAP_SHARED | MAP_ANONYMOUS };

static const char *directory;
static uint64_t seeds = 0x5eed0000;

static void row(const char *name, void *at, size_t size, const char *state, uint64_t even, uint64_t odd, size_t first)
{
    printf("%s %lx %lx %s %lx %lx %lx\n", name, (unsigned long)at, size, state, even, odd, first);
}

static void lacks(const char *name, const char *what)
{
    printf("lacks %s %s: %s\n", name, what, strerror(errno));
}

/* Keep mappings apart: equal neighbours would become one. */
static void fence(void)
{
    mmap(0, PAGE, PROT_NONE, SHARED, -1, 0);
}

static char *map(size_t size, int protection, int flags)
{
    fence();
    char *p = mmap(0, size, protection, flags, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return p;
}

static uint64_t fill(char *p, size_t size)
{
    uint64_t seed = ++seeds;
    for (size_t page = 0; page < size / PAGE; page++)
        for (size_t word = 0; word < PAGE / 8; word++)
            ((uint64_t *)p)[page * (PAGE / 8) + word] = word % 2 ? page : seed;
    return seed;
}

static void filled(const char *name, char *p, size_t size)
{
    uint64_t seed = fill(p, size);
    row(name, p, size, "data", seed, seed, 0);
}

/* A file with what fill() makes, out of the page cache if asked for; its descriptor. */
static int file(const char *name, uint64_t *seed, int cold)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    char *buffer = malloc(SIZE);
    *seed = fill(buffer, SIZE);
    if (fd < 0 || write(fd, buffer, SIZE) != (ssize_t)SIZE) {
        perror(path);
        exit(1);
    }
    free(buffer);
    if (cold) {
        fsync(fd);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    return fd;
}

static char *map_file(int fd, int protection, int flags)
{
    fence();
    char *p = mmap(0, SIZE, protection, flags, fd, 0);
    if (p == MAP_FAILED) {
        perror("mmap of a file");
        exit(1);
    }
    return p;
}

static void anonymous(int plain)
{
    row("untouched", map(SIZE, RW, PRIVATE), SIZE, "zero", 0, 0, 0);
    filled("written", map(SIZE, RW, PRIVATE), SIZE);

    char *p = map(SIZE, RW, PRIVATE);
    volatile char sum = 0;
    for (size_t i = 0; i < SIZE; i += PAGE)
        sum += p[i];
    row("only_read", p, SIZE, "zero", 0, 0, 0);

    p = map(SIZE, RW, PRIVATE);
    uint64_t seed = ++seeds;
    for (size_t i = 0; i < SIZE; i += 2 * PAGE)
        for (size_t word = 0; word < PAGE / 8; word++)
            ((uint64_t *)(p + i))[word] = word % 2 ? i / PAGE : seed;
    row("every_second", p, SIZE, "mixed", seed, 0, 0);

    filled("freed", p = map(SIZE, RW, PRIVATE), SIZE);
    madvise(p, SIZE, MADV_FREE);

    filled("not_dumped", p = map(SIZE, RW, PRIVATE), SIZE);
    madvise(p, SIZE, MADV_DONTDUMP);

    filled("guarded", p = map(SIZE, RW, PRIVATE), SIZE / 4);
    if (madvise(p + SIZE / 4, SIZE / 4, MADV_GUARD_INSTALL))
        lacks("guard", "MADV_GUARD_INSTALL");
    else
        row("guard", p + SIZE / 4, SIZE / 4, "absent", 0, 0, 0);

    if (plain)
        return;
    p = mmap(0, 1UL << 40, RW, PRIVATE | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        lacks("tebibyte", "a mapping of 1 TiB");
    else
        for (size_t i = 0; i < 4; i++) {
            char name[32];
            snprintf(name, sizeof name, "tebibyte_%zu", i);
            filled(name, p + (i << 38) + (i << 20), PAGE);
        }
}

static void protected(void)
{
    static const struct { const char *name; int protection; } kinds[] = {
        {"no_access", PROT_NONE}, {"write_only", PROT_WRITE}, {"execute_only", PROT_EXEC}, {"read_only", PROT_READ},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char *p = map(SIZE, RW, PRIVATE);
        filled(kinds[i].name, p, SIZE);
        mprotect(p, SIZE, kinds[i].protection);
    }
    row("never_accessible", map(SIZE, PROT_NONE, PRIVATE), SIZE, "zero", 0, 0, 0);
}

static void huge(int hugetlb)
{
    char *p = map(6 * MIB, RW, PRIVATE);
    p = (char *)(((uintptr_t)p + 2 * MIB - 1) & -(2 * MIB));
    madvise(p, 2 * MIB, MADV_HUGEPAGE);
    filled("transparent_huge", p, 2 * MIB);
    madvise(p + 2 * MIB, 2 * MIB, MADV_HUGEPAGE);
    row("transparent_huge_untouched", p + 2 * MIB, 2 * MIB, "zero", 0, 0, 0);

    if (!hugetlb)
        return;
    fence();
    p = mmap(0, 2 * MIB, RW, PRIVATE | MAP_HUGETLB, -1, 0);
    char *q = mmap(0, 2 * MIB, RW, PRIVATE | MAP_HUGETLB, -1, 0);
    if (p == MAP_FAILED || q == MAP_FAILED) {
        lacks("hugetlb", "MAP_HUGETLB");
        return;
    }
    filled("hugetlb", p, 2 * MIB);
    row("hugetlb_untouched", q, 2 * MIB, "zero", 0, 0, 0);
}

static void files(void)
{
    static const struct { const char *name; int flags, cold; } kinds[] = {
        {"file_private", MAP_PRIVATE, 0}, {"file_shared", MAP_SHARED, 0}, {"file_cold", MAP_PRIVATE, 1},
    };
    uint64_t seed, other;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int fd = file(kinds[i].name, &seed, kinds[i].cold);
        row(kinds[i].name, map_file(fd, RW, kinds[i].flags), SIZE, "data", seed, seed, 0);
        close(fd);
    }

    int fd = file("file_half_written", &seed, 0);
    char *p = map_file(fd, RW, MAP_PRIVATE);
    other = ++seeds;
    for (size_t i = 0; i < SIZE; i += 2 * PAGE)
        for (size_t word = 0; word < PAGE / 8; word++)
            ((uint64_t *)(p + i))[word] = word % 2 ? i / PAGE : other;
    row("file_half_written", p, SIZE, "data", other, seed, 0);

    fd = file("file_deleted", &seed, 0);
    char path[512];
    snprintf(path, sizeof path, "%s/file_deleted", directory);
    unlink(path);
    row("file_deleted", map_file(fd, PROT_READ, MAP_PRIVATE), SIZE, "data", seed, seed, 0);

    fd = file("a name\nof two lines", &seed, 0);
    row("file_odd_name", map_file(fd, PROT_READ, MAP_PRIVATE), SIZE, "data", seed, seed, 0);

    fd = file("file_cut", &seed, 0);
    p = map_file(fd, RW, MAP_PRIVATE);
    if (ftruncate(fd, SIZE / 2 + 16))
        perror("ftruncate");
    row("file_before_cut", p, SIZE / 2, "data", seed, seed, 0);
    row("file_last_page", p + SIZE / 2, PAGE, "tail", seed, seed, SIZE / 2 / PAGE);
    row("file_behind_end", p + SIZE / 2 + PAGE, SIZE / 2 - PAGE, "absent", 0, 0, 0);

    fd = file("file_with_hole", &seed, 0);
    if (ftruncate(fd, 0) || ftruncate(fd, SIZE))
        perror("ftruncate");
    row("file_with_hole", map_file(fd, PROT_READ, MAP_SHARED), SIZE, "zero", 0, 0, 0);

    fd = open("/dev/zero", O_RDWR);
    row("dev_zero_private", map_file(fd, RW, MAP_PRIVATE), SIZE, "zero", 0, 0, 0);
}

static void shared(void)
{
    char *p = map(SIZE, RW, SHARED);
    uint64_t seed = ++seeds;
    if (!fork()) { /* another process writes: nothing of it is in our page table */
        seeds = seed - 1;
        fill(p, SIZE);
        _exit(0);
    }
    wait(0);
    row("shared_written_by_other", p, SIZE, "data", seed, seed, 0);
    row("shared_hole", map(SIZE, RW, SHARED), SIZE, "zero", 0, 0, 0);
    filled("shared_written", map(SIZE, RW, SHARED), SIZE);

    int fd = memfd_create("some memfd", 0);
    char page[PAGE];
    seed = fill(page, PAGE);
    if (write(fd, page, PAGE) != (ssize_t)PAGE || ftruncate(fd, SIZE))
        perror("memfd");
    p = map_file(fd, RW, MAP_SHARED);
    row("memfd", p, PAGE, "data", seed, seed, 0);
    row("memfd_hole", p + PAGE, SIZE - PAGE, "zero", 0, 0, 0);
}

/* Until it is out: the kernel leaves pages that it is busy with. */
static void page_out(char *p)
{
    unsigned char there[SIZE / PAGE];
    for (int tries = 0; tries < 1000; tries++) {
        if (madvise(p, SIZE, MADV_PAGEOUT)) { perror("MADV_PAGEOUT"); return; }
        if (!mincore(p, SIZE, there) && !memchr(there, 1, sizeof there)) return;
        usleep(5000);
    }
}

static void swapped(void)
{
    char *p = map(SIZE, RW, PRIVATE);
    uint64_t seed = fill(p, SIZE);
    page_out(p);
    row("swapped", p, SIZE, "swapped", seed, seed, 0);
    p = map(SIZE, RW, SHARED);
    seed = fill(p, SIZE);
    page_out(p);
    row("shared_swapped", p, SIZE, "swapped", seed, seed, 0);
}

static void special(int plain)
{
    int uffd = plain ? -1 : syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    struct uffdio_api api = {.api = UFFD_API};
    if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
        lacks("userfaultfd", "userfaultfd(2)");
    else {
        char *p = map(SIZE, RW, PRIVATE);
        uint64_t seed = fill(p, SIZE / 2);
        struct uffdio_register range = {.range = {(unsigned long)p, SIZE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
        if (ioctl(uffd, UFFDIO_REGISTER, &range))
            lacks("userfaultfd", "UFFDIO_REGISTER");
        else {
            row("userfaultfd_there", p, SIZE / 2, "data", seed, seed, 0);
            row("userfaultfd_missing", p + SIZE / 2, SIZE / 2, "absent", 0, 0, 0);
        }
    }
    int fd = syscall(SYS_memfd_secret, 0);
    if (fd < 0 || ftruncate(fd, SIZE))
        lacks("memfd_secret", "memfd_secret(2)");
    else {
        char *p = map_file(fd, RW, MAP_SHARED);
        fill(p, SIZE);
        row("memfd_secret", p, SIZE, "absent", 0, 0, 0);
    }
    char *p = map(SIZE, RW, PRIVATE | MAP_GROWSDOWN);
    uint64_t seed = fill(p + SIZE - PAGE, PAGE);
    row("grows_down", p, SIZE - PAGE, "zero", 0, 0, 0);
    row("grows_down_top", p + SIZE - PAGE, PAGE, "data", seed, seed, 0);
}

static void below_the_stack(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned long start;
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "[stack]") && sscanf(line, "%lx-", &start) == 1)
            row("below_the_stack", (void *)(start - 16 * PAGE), 16 * PAGE, "gap", 0, 0, 0);
    fclose(maps);
}

int main(int argc, char **argv)
{
    int swap = 0, hugetlb = 0, plain = 0;
    directory = argv[1];
    for (int i = 2; i < argc; i++) {
        swap |= !strcmp(argv[i], "swap");
        hugetlb |= !strcmp(argv[i], "hugetlb");
        plain |= !strcmp(argv[i], "plain");
    }
    prctl(PR_SET_PDEATHSIG, 9);
    setvbuf(stdout, malloc(1 << 16), _IOFBF, 1 << 16);
    anonymous(plain);
    protected();
    huge(hugetlb);
    files();
    shared();
    if (swap)
        swapped();
    special(plain);
    below_the_stack();
    printf("ready\n");
    fflush(stdout);
    for (;;)
        pause();
}
