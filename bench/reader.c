/*
 * A reader that is not the bottleneck: read() into one buffer of 1 MiB, and the time that took.
 *
 *     reader [-s] [-w] PATH OFFSET LENGTH
 *
 * Prints "START END BYTES SUM": clock of CLOCK_MONOTONIC in ns before open() and after the last read(), so that several
 * readers can be laid beside each other.  -w waits for the end of stdin before it starts; -s sums up the bytes read
 * (in their order), for comparing contents in a run that is not measured.
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (1 << 20)

static uint64_t buffer[BLOCK / sizeof(uint64_t)] __attribute__((aligned(4096)));

static long long now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

int main(int argc, char **argv)
{
    int option, sum = 0, wait = 0;
    char byte;

    while ((option = getopt(argc, argv, "sw")) != -1) {
        if (option == '?')
            return 2;
        sum |= option == 's';
        wait |= option == 'w';
    }
    if (argc - optind != 3) {
        fprintf(stderr, "usage: %s [-s] [-w] PATH OFFSET LENGTH\n", argv[0]);
        return 2;
    }
    const char *path = argv[optind];
    off_t offset = strtoll(argv[optind + 1], NULL, 10);
    long long length = strtoll(argv[optind + 2], NULL, 10), done = 0;
    uint64_t total = 0;

    memset(buffer, 1, sizeof buffer); /* its page faults are not the file system's */
    if (wait)
        while (read(STDIN_FILENO, &byte, 1) > 0)
            ;

    long long start = now();
    int fd = open(path, O_RDONLY);
    if (fd < 0 || (offset && lseek(fd, offset, SEEK_SET) < 0)) {
        perror(path);
        return 1;
    }
    while (done < length) {
        ssize_t got = read(fd, buffer, length - done < BLOCK ? (size_t)(length - done) : BLOCK);
        if (got < 0) {
            perror(path);
            return 1;
        }
        if (got == 0)
            break;
        for (size_t i = 0; sum && i < (size_t)got / sizeof *buffer; i++)
            total = total * 31 + buffer[i];
        done += got;
    }
    printf("%lld %lld %lld %llu\n", start, now(), done, (unsigned long long)total);
    return 0;
}
