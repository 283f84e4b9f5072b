/* The clock of one process and of those that it starts, put back by as many seconds as a file says.
 *
 * Constraints: nothing of the machine changes; the process asks the C library for the time of day, and this stands in
 * between (LD_PRELOAD). Monotonic clocks, timers and the times of files stay the machine's. A program that does not ask
 * the C library (a static one, a raw system call) sees the machine's clock: whoever uses this looks whether it took.
 *
 * TRIPOD_DRILL_CLOCK names a file of 8 bytes, a signed number in the machine's own order. It is mapped, so that whoever
 * writes to it moves the clock of everybody who reads it, at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int (*next_clock_gettime)(clockid_t, struct timespec *);
static const volatile int64_t *shift_s;

__attribute__((constructor)) static void begin(void) {
    int kept = errno;
    const char *path = getenv("TRIPOD_DRILL_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    *(void **)&next_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    if (file >= 0) {
        void *at = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        if (at != MAP_FAILED) {
            shift_s = at;
        }
        close(file);
    }
    errno = kept;
}

int clock_gettime(clockid_t id, struct timespec *at) {
    int done = next_clock_gettime ? next_clock_gettime(id, at) : (int)syscall(SYS_clock_gettime, id, at);
    if (done == 0 && shift_s && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_TAI)) {
        at->tv_sec += *shift_s;
    }
    return done;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return -1;
    }
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME_COARSE, &now) != 0) {
        return (time_t)-1;
    }
    if (at) {
        *at = now.tv_sec;
    }
    return now.tv_sec;
}
