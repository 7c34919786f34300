/*
 * A read-only FUSE file system on libfuse3's high-level API: what memfs is measured against.
 *
 *     passthrough SOURCE MOUNTPOINT --offset=N --size=N [--splice] [--pages=N] [--direct] [-f] [-s] [-o OPTIONS]
 *
 * MOUNTPOINT/seg is the SIZE bytes of SOURCE from OFFSET on.  It is meant to be as fast as a plain C file system can
 * be, not as short: requests of 1 MiB, long timeouts, no paths, a deep queue.
 *
 *     (default)   .read answers with pread into libfuse's buffer
 *     --splice    .read_buf hands libfuse the descriptor, so that it splices file -> pipe -> /dev/fuse
 *     --pages=N   the largest request in pages, 256 (1 MiB, the kernel's own limit) unless told.  libfuse splices a
 *                 request only through a pipe that holds it and three pages more, and quietly copies it otherwise; a
 *                 pipe is at most /proc/sys/fs/pipe-max-size (256 pages) without CAP_SYS_RESOURCE: 252 always fits
 *     --direct    reads bypass the page cache (FOPEN_DIRECT_IO); otherwise the kernel caches and keeps
 */
#define FUSE_USE_VERSION 35
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEG "/seg"
#define FOREVER 86400.0

static struct {
    char *source;
    unsigned long long offset, size;
    int splice, direct, pages;
    int fd;
    struct stat st; /* of the source, for times and owner */
} segment = {.pages = 256, .fd = -1};

static void *seg_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
    /* INIT can only lower the kernel's read-ahead; whoever mounts raises it in /sys/class/bdi afterwards. */
    conn->max_readahead = segment.pages * sysconf(_SC_PAGESIZE);
    conn->max_write = conn->max_readahead; /* libfuse 3 asks for as many pages a request as a write may have */
    conn->max_background = 64;
    conn->congestion_threshold = 48;
    /* Without SPLICE_MOVE: no faster here, and it may steal the pages of a source that others read as well. */
    if (segment.splice)
        conn->want |= conn->capable & FUSE_CAP_SPLICE_WRITE;

    config->kernel_cache = !segment.direct;
    config->direct_io = segment.direct;
    config->attr_timeout = config->entry_timeout = config->negative_timeout = FOREVER;
    config->nullpath_ok = 1; /* saves building a path for each read */
    return NULL;
}

static int seg_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    memset(st, 0, sizeof *st);
    st->st_uid = segment.st.st_uid;
    st->st_gid = segment.st.st_gid;
    st->st_mtim = st->st_ctim = st->st_atim = segment.st.st_mtim;
    if (!fi && !strcmp(path, "/")) {
        st->st_mode = S_IFDIR | 0555;
        st->st_nlink = 2;
    } else if (fi || !strcmp(path, SEG)) {
        st->st_mode = S_IFREG | 0444;
        st->st_nlink = 1;
        st->st_size = (off_t)segment.size;
        st->st_blocks = (blkcnt_t)((segment.size + 511) / 512);
    } else {
        return -ENOENT;
    }
    return 0;
}

static int seg_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *fi,
                       enum fuse_readdir_flags flags)
{
    (void)path, (void)offset, (void)fi, (void)flags;
    fill(buffer, ".", NULL, 0, 0);
    fill(buffer, "..", NULL, 0, 0);
    fill(buffer, SEG + 1, NULL, 0, 0);
    return 0;
}

static int seg_open(const char *path, struct fuse_file_info *fi)
{
    if (strcmp(path, SEG))
        return -ENOENT;
    if ((fi->flags & O_ACCMODE) != O_RDONLY)
        return -EROFS;
    fi->direct_io = segment.direct;
    fi->keep_cache = !segment.direct;
    return 0;
}

/* How many of `size` bytes at `offset` lie inside the segment. */
static size_t inside(size_t size, off_t offset)
{
    unsigned long long from = (unsigned long long)offset;

    if (from >= segment.size)
        return 0;
    return size < segment.size - from ? size : (size_t)(segment.size - from);
}

static int seg_read(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *fi)
{
    ssize_t got = pread(segment.fd, buffer, inside(size, offset), (off_t)segment.offset + offset);

    (void)path, (void)fi;
    return got < 0 ? -errno : (int)got;
}

static int seg_read_buf(const char *path, struct fuse_bufvec **answer, size_t size, off_t offset,
                        struct fuse_file_info *fi)
{
    struct fuse_bufvec *vec = malloc(sizeof *vec); /* libfuse frees it */

    (void)path, (void)fi;
    if (!vec)
        return -ENOMEM;
    *vec = FUSE_BUFVEC_INIT(inside(size, offset));
    vec->buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
    vec->buf[0].fd = segment.fd;
    vec->buf[0].pos = (off_t)segment.offset + offset;
    *answer = vec;
    return 0;
}

static const struct fuse_opt options[] = {
    {"--offset=%llu", offsetof(__typeof__(segment), offset), 0},
    {"--size=%llu", offsetof(__typeof__(segment), size), 0},
    {"--pages=%d", offsetof(__typeof__(segment), pages), 0},
    {"--splice", offsetof(__typeof__(segment), splice), 1},
    {"--direct", offsetof(__typeof__(segment), direct), 1},
    FUSE_OPT_END,
};

/* The first word that is no option is the source; the rest is libfuse's. */
static int keep(void *data, const char *arg, int key, struct fuse_args *args)
{
    (void)data, (void)args;
    if (key != FUSE_OPT_KEY_NONOPT || segment.source)
        return 1;
    segment.source = realpath(arg, NULL);
    if (!segment.source) {
        perror(arg);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
    struct fuse_operations operations = {
        .init = seg_init, .getattr = seg_getattr, .readdir = seg_readdir, .open = seg_open, .read = seg_read};

    if (fuse_opt_parse(&args, &segment, options, keep))
        return 2;
    if (!segment.source || !segment.size) {
        fprintf(stderr, "usage: %s SOURCE MOUNTPOINT --offset=N --size=N [--splice] [--pages=N] [--direct] [-f]\n", argv[0]);
        return 2;
    }
    segment.fd = open(segment.source, O_RDONLY | O_CLOEXEC);
    if (segment.fd < 0 || fstat(segment.fd, &segment.st)) {
        perror(segment.source);
        return 1;
    }
    if (segment.splice)
        operations.read_buf = seg_read_buf;
    return fuse_main(args.argc, args.argv, &operations, NULL);
}
