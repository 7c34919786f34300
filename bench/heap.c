/* A process to copy memory out of.

   heap fill MIB REST EVERY   a mapping of MIB + REST MiB; of the first MIB every EVERY-th page is written
   heap many N                N mappings of one page that do not become one, and a small heap

   Prints the start and the end of it in hex, and sleeps. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGE 4096UL

static char *map(size_t size)
{
    char *p = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    madvise(p, size, MADV_NOHUGEPAGE);
    return p;
}

int main(int argc, char **argv)
{
    char *start;
    size_t size;
    prctl(PR_SET_PDEATHSIG, 9);
    if (argc == 5 && !strcmp(argv[1], "fill")) {
        size_t filled = strtoul(argv[2], 0, 0) << 20, step = PAGE * strtoul(argv[4], 0, 0);
        size = filled + (strtoul(argv[3], 0, 0) << 20);
        start = map(size);
        for (size_t i = 0; i < filled; i += step)
            memset(start + i, 1 + (i / PAGE) % 250, PAGE);
    } else if (argc == 3 && !strcmp(argv[1], "many")) {
        size = strtoul(argv[2], 0, 0) * PAGE;
        start = map(size);
        memset(start, 1, size);
        for (size_t i = 0; i < size; i += 2 * PAGE)
            mprotect(start + i, PAGE, PROT_READ);
        memset(malloc(1000), 1, 1000);
    } else {
        return 2;
    }
    printf("%lx %lx\n", (unsigned long)start, (unsigned long)(start + size));
    fflush(stdout);
    for (;;)
        pause();
}
