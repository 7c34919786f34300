/* crash: what the tests know of a process. It has a string in its heap, two more threads, and crashes at 0x10. */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sem_t started;
static char bss[3 * 4096];
char data[] = "a string in .data";

static void *wait_for_ever(void *unused)
{
    sem_post(&started);
    for (;;)
        pause();
    return unused;
}

int main(void)
{
    pthread_attr_t small;
    pthread_t thread;
    char *volatile heap = malloc(100); /* volatile: or the compiler keeps it in a register */

    strcpy(heap, "a secret in the heap of crash.c");
    memset(bss, 'b', sizeof bss);
    sem_init(&started, 0, 0);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    for (int i = 0; i < 2; i++)
        if (pthread_create(&thread, &small, wait_for_ever, NULL))
            abort();
    sem_wait(&started);
    sem_wait(&started);
    usleep(20000);
    *(volatile int *)0x10 = heap[0] + data[0];
    return 0;
}
