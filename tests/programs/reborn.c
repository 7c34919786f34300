/* reborn PID PROGRAM ARG...: run a program as the process PID, which must be free (clone3, Linux 5.5). */
#define _GNU_SOURCE
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    pid_t wanted = argc > 2 ? atoi(argv[1]) : 0;
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.exit_signal = SIGCHLD;
    args.set_tid = (uint64_t)(uintptr_t)&wanted;
    args.set_tid_size = 1;
    pid_t child = syscall(SYS_clone3, &args, sizeof args);
    if (child < 0) { perror("clone3"); return 1; }
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execv(argv[2], argv + 2);
        perror("execv");
        _exit(1);
    }
    waitpid(child, NULL, 0);
    return 0;
}
