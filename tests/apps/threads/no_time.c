/* Preloaded (LD_PRELOAD), it keeps the time from one thread of one process: asked for it, the clock fails. The thread is the one that the file
   which NO_TIME_FILE names tells, as "PID NAME". */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int refused(void) {
    const char *name = getenv("NO_TIME_FILE");
    char told[64] = {0}, thread[16] = {0}, own[64];
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    ssize_t length = read(file, told, sizeof told - 1);
    close(file);
    prctl(PR_GET_NAME, thread);
    snprintf(own, sizeof own, "%d %s", getpid(), thread);
    return length > 0 && strcmp(told, own) == 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (refused()) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_clock_gettime, clock, now);
}
