/*
 * A process with a page of every kind that a kernel without PAGEMAP_SCAN must be asked about in another way.
 *
 *     pages FILE        makes FILE, and prints `NAME ADDRESS SIZE`, a line for each area, then `ready`; runs until killed
 *
 * What each area holds is in tests/vm/test_live.py.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096ul
#define SIZE (8 * PAGE)
#define LARGE (16ul << 20)

static void check(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static char *map(const char *name, size_t size, int flags, int fd)
{
    char *area = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

    check(area != MAP_FAILED, name);
    munmap(area + size, PAGE); /* adjoining areas would be one */
    if (flags == (MAP_PRIVATE | MAP_ANONYMOUS)) /* 0x53564d41, 0: PR_SET_VMA, PR_SET_VMA_ANON_NAME, Linux 5.17 */
        prctl(0x53564d41, 0, area, size, name); /* not every kernel is built with it */
    printf("%s %p %zu\n", name, (void *)area, size);
    return area;
}

static void fill(char *area, int page, char with)
{
    memset(area + page * PAGE, with, PAGE);
}

int main(int argc, char **argv)
{
    const int private = MAP_PRIVATE | MAP_ANONYMOUS;
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
    char page[PAGE], *area;
    int fd, i;

    check(argc == 2, "usage: pages FILE");
    area = map("named", SIZE, private, -1);
    fill(area, 0, 'n');
    fill(area, 3, 'N');
    map("untouched", LARGE, private, -1);
    area = map("only read", SIZE, private, -1);
    check(*(volatile char *)area == 0, "a page of zeros");
    area = map("no access", SIZE, private, -1);
    fill(area, 1, 'x');
    check(!mprotect(area, SIZE, PROT_NONE), "mprotect");

    fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    check(fd >= 0, argv[1]);
    for (i = 0; i < 8; i++)
        check(write(fd, memset(page, 'a' + i, PAGE), PAGE) == PAGE, "write");
    area = map("file", SIZE, MAP_PRIVATE, fd);
    fill(area, 2, 'Z'); /* copied on write: the file keeps its c */

    area = map("shared", SIZE, MAP_SHARED | MAP_ANONYMOUS, -1);
    fill(area, 1, 's');
    fd = memfd_create("filled", 0);
    check(fd >= 0 && !ftruncate(fd, SIZE) && pwrite(fd, memset(page, 'm', PAGE), PAGE, PAGE) == PAGE, "memfd");
    map("memfd", SIZE, MAP_SHARED, fd);

    area = map("swapped", SIZE, private, -1);
    fill(area, 1, 'w');
    check(!madvise(area, SIZE, 21), "MADV_PAGEOUT");
    area = map("shared swapped", SIZE, MAP_SHARED | MAP_ANONYMOUS, -1);
    fill(area, 1, 'W');
    check(!madvise(area, SIZE, 21), "MADV_PAGEOUT");

    area = map("userfault", SIZE, private, -1);
    fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
    check(fd >= 0 && !ioctl(fd, UFFDIO_API, &api), "userfaultfd");
    range.range.start = (unsigned long)area;
    range.range.len = SIZE;
    check(!ioctl(fd, UFFDIO_REGISTER, &range), "UFFDIO_REGISTER");

    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
