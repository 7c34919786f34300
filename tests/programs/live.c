/* A program to be looked at alive. It prints a fact a line (NAME VALUE, addresses in hex) and "ready"; then it does
   what it is told on stdin, a word a line, and answers each with "done". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096
#define STACK (256 * 1024)

static volatile int spinning;
static char *area;
static size_t area_size = 64 * PAGE;

static void fact(const char *name, const void *address) { printf("%s %lx\n", name, (unsigned long)address); }

static void number(const char *name, long value) { printf("%s %ld\n", name, value); }

static void *map(size_t size, int access, int flags, int fd)
{
    void *p = mmap(NULL, size, access, flags, fd, 0);
    if (p == MAP_FAILED) { perror("mmap"); exit(1); }
    return p;
}

/* Memory of its own: nothing adjoins it that the kernel would join with it. */
static void *apart(size_t size)
{
    char *p = map(size + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (mprotect(p + PAGE, size, PROT_READ | PROT_WRITE)) { perror("mprotect"); exit(1); }
    return p + PAGE;
}

static void *blocked(void *arg)
{
    char here;
    prctl(PR_SET_NAME, "blocked thread");
    ((void **)arg)[0] = (void *)(long)syscall(SYS_gettid);
    ((void *volatile *)arg)[1] = &here;
    for (;;) pause();
    return NULL;
}

static void *spinner(void *arg)
{
    char here;
    prctl(PR_SET_NAME, "spinner");
    ((void **)arg)[0] = (void *)(long)syscall(SYS_gettid);
    ((void *volatile *)arg)[1] = &here;
    while (!spinning) usleep(1000);
    for (;;) ;
    return NULL;
}

static void *start(void *(*body)(void *), const char *name, void *stack)
{
    static void *told[16][2];
    static int count;
    pthread_attr_t attr;
    pthread_t thread;
    void *volatile *mine = told[count++];
    char key[40];
    pthread_attr_init(&attr);
    if (stack) pthread_attr_setstack(&attr, stack, STACK);
    if (pthread_create(&thread, &attr, body, (void *)mine)) { perror("pthread_create"); exit(1); }
    while (!mine[1]) usleep(100);
    number(name, (long)mine[0]);
    snprintf(key, sizeof key, "%s.sp", name);
    fact(key, mine[1]);
    return (void *)mine[1];
}

static void fill(char *to, size_t size, const char *word)
{
    for (size_t at = 0; at + 64 <= size; at += 64) snprintf(to + at, 64, "%s %zu", word, at);
}

static void obey(char *word, char **argv)
{
    if (!strcmp(word, "spin")) spinning = 1;
    else if (!strcmp(word, "unmap")) munmap(area, area_size);
    else if (!strcmp(word, "other")) { /* another mapping in the same place */
        munmap(area, area_size);
        int fd = memfd_create("other", 0);
        if (ftruncate(fd, area_size)) exit(1);
        area = mmap(area, area_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
        fill(area, area_size, "OTHER");
    }
    else if (!strcmp(word, "move")) {
        char *to = map(area_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        area = mremap(area, area_size, area_size, MREMAP_MAYMOVE | MREMAP_FIXED, to);
        fact("moved", area);
    }
    else if (!strcmp(word, "change")) fill(area, area_size, "CHANGED");
    else if (!strcmp(word, "leave")) { printf("done\n"); fflush(stdout); syscall(SYS_exit, 0); }
    else if (!strcmp(word, "undumpable")) prctl(PR_SET_DUMPABLE, 0);
    else if (!strncmp(word, "exec", 4)) { /* itself, or what is named */
        char *words[] = {argv[0], "after", "exec", NULL};
        printf("done\n");
        fflush(stdout);
        execv(word[4] ? word + 5 : "/proc/self/exe", words);
    }
    else if (!strcmp(word, "exit")) exit(0);
    else { fprintf(stderr, "no such word: %s\n", word); exit(2); }
}

int main(int argc, char **argv)
{
    char line[4096], name[] = "live.deleted.XXXXXX";
    static char bss[2 * PAGE];
    long many = getenv("MAPPINGS") ? atol(getenv("MAPPINGS")) : 0;

    alarm(600); /* whatever happens to the tests */
    number("pid", getpid());
    number("argc", argc);
    fact("main", (void *)main);
    bss[PAGE] = 'b';
    fact("bss", bss);

    char *secret = malloc(100);
    strcpy(secret, "a secret in the heap of live.c");
    fact("secret", secret);

    area = apart(area_size);
    fill(area, area_size, "AREA");
    fact("area", area);
    fact("untouched", apart(4 * PAGE));

    int fd = memfd_create("a memfd", 0);
    if (ftruncate(fd, 4 * PAGE)) return 1;
    char *shared = map(4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    fill(shared, PAGE, "MEMFD");
    fact("memfd", shared);
    fd = mkstemp(name);
    if (write(fd, "DELETED FILE", 12) != 12) return 1;
    unlink(name);
    fact("deleted", map(PAGE, PROT_READ, MAP_PRIVATE, fd));
    printf("deleted.name %s\n", name);

    start(blocked, "blocked", NULL);
    start(spinner, "spinner", NULL);
    char *stacks = apart(2 * STACK); /* as Go has them */
    fact("stacks", stacks);
    start(blocked, "first", stacks);
    start(blocked, "second", stacks + STACK);

    for (long i = 0; i < many; i++)
        map(PAGE, i & 1 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        obey(line, argv);
        printf("done\n");
        fflush(stdout);
    }
    return 0;
}
