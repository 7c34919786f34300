/* many COUNT: so many processes that sleep, of one small memory. It prints their ids and "ready", and ends them when
   its standard input ends. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define STACK 16384

static int sleeper(void *arg)
{
    (void)arg;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
    return 0;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 0;
    pid_t *pids = calloc(count, sizeof *pids);
    char *stacks = malloc((size_t)count * STACK), rest;
    alarm(300);
    for (int i = 0; i < count; i++) {
        pids[i] = clone(sleeper, stacks + (size_t)(i + 1) * STACK, CLONE_VM | SIGCHLD, NULL);
        if (pids[i] < 0) { perror("clone"); break; }
        printf("%d\n", pids[i]);
    }
    printf("ready\n");
    fflush(stdout);
    while (read(0, &rest, 1) > 0) ;
    for (int i = 0; i < count; i++)
        if (pids[i] > 0) kill(pids[i], SIGKILL);
    return 0;
}
