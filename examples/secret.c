/* secret: holds a secret in its heap, has two threads, and crashes.
 *
 * examples/secret.core is what the kernel wrote of it; `make examples/secret.core` makes it again. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct account {
    char user[16];
    char password[40];
    struct account *next;
};

static struct account *accounts; /* in .bss, points into the heap */

static void add(const char *user, const char *password)
{
    struct account *a = calloc(1, sizeof *a);
    if (!a)
        abort();
    strncpy(a->user, user, sizeof a->user - 1);
    strncpy(a->password, password, sizeof a->password - 1);
    a->next = accounts;
    accounts = a;
}

static void *wait_for_ever(void *unused)
{
    (void)unused;
    for (;;)
        pause();
}

int main(void)
{
    pthread_attr_t small; /* a small stack makes a small core */
    pthread_t thread;

    add("alice", "the-secret-is-swordfish");
    add("bob", "correct horse battery staple");
    if (pthread_attr_init(&small) || pthread_attr_setstacksize(&small, 64 << 10))
        abort();
    if (pthread_create(&thread, &small, wait_for_ever, NULL))
        abort();
    usleep(100000);
    *(volatile int *)0x10 = 1; /* SIGSEGV, SEGV_MAPERR at 0x10 */
    return 0;
}
