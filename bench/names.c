// A directory of so many files on libfuse3, answered by readdirplus: what memfs's listings are held against.
// names MOUNTPOINT COUNT: the directory `segments` has COUNT files of one page each, under names as memfs gives them.
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long count;
static const char directory[] = "/segments";

static void *start(struct fuse_conn_info *connection, struct fuse_config *config) {
    connection->want |= FUSE_CAP_READDIRPLUS; // always, as memfs does: AUTO costs `find` several times as much
    connection->want &= ~FUSE_CAP_READDIRPLUS_AUTO;
    config->use_ino = 1;
    config->kernel_cache = 1;
    config->entry_timeout = config->attr_timeout = config->negative_timeout = 86400;
    return NULL;
}

static void describe(long index, struct stat *st) { // -2 the root, -1 the directory, else a file
    memset(st, 0, sizeof *st);
    st->st_ino = (ino_t)(index + 3);
    st->st_mode = index < 0 ? S_IFDIR | 0500 : S_IFREG | 0400;
    st->st_nlink = index < 0 ? 2 : 1;
    st->st_size = index < 0 ? 0 : 4096;
    st->st_blocks = index < 0 ? 0 : 8;
}

static void name_of(long index, char *name, size_t size) {
    snprintf(name, size, "%03ld-%016lx-rw-", index + 1, 0x100000000000 + index * 8192);
}

static long find(const char *path) {
    char name[64];
    if (strcmp(path, "/") == 0)
        return -2;
    if (strcmp(path, directory) == 0)
        return -1;
    if (strncmp(path, directory, sizeof directory - 1) != 0 || path[sizeof directory - 1] != '/')
        return -3;
    long index = atol(path + sizeof directory) - 1;
    if (index < 0 || index >= count)
        return -3;
    name_of(index, name, sizeof name);
    return strcmp(path + sizeof directory, name) == 0 ? index : -3;
}

static int attributes(const char *path, struct stat *st, struct fuse_file_info *info) {
    (void)info;
    long index = find(path);
    if (index == -3)
        return -ENOENT;
    describe(index, st);
    return 0;
}

static int list(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *info,
                enum fuse_readdir_flags flags) {
    (void)info, (void)flags;
    struct stat st;
    char name[64];
    long parent = find(path);
    if (parent == -2) {
        describe(-1, &st);
        fill(buffer, directory + 1, &st, 0, FUSE_FILL_DIR_PLUS);
        return 0;
    }
    for (long index = offset; index < count; index++) {
        name_of(index, name, sizeof name);
        describe(index, &st);
        if (fill(buffer, name, &st, index + 1, FUSE_FILL_DIR_PLUS))
            break;
    }
    return 0;
}

static int open_directory(const char *path, struct fuse_file_info *info) {
    info->cache_readdir = 1;
    info->keep_cache = 1;
    return find(path) < 0 ? 0 : -ENOTDIR;
}

static const struct fuse_operations operations = {
    .init = start, .getattr = attributes, .readdir = list, .opendir = open_directory};

int main(int argc, char **argv) {
    if (argc != 3 || (count = atol(argv[2])) <= 0) {
        fprintf(stderr, "usage: names MOUNTPOINT COUNT\n");
        return 2;
    }
    char *arguments[] = {argv[0], "-o", "ro,default_permissions", argv[1], NULL};
    return fuse_main(4, arguments, &operations, NULL);
}
