// A directory of so many files on libfuse3, answered by readdirplus: what memfs's listings are held against.
// names MOUNTPOINT COUNT: the directory `segments` has COUNT files of one page each, under names as memfs gives them.
// names MOUNTPOINT FILE: it has the files of FILE, a line `SIZE NAME` each.
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long count;
static struct file { long size; char *name; } *files; // NULL: names and sizes are worked out
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
    st->st_size = index < 0 ? 0 : files ? files[index].size : 4096;
    st->st_blocks = (st->st_size + 511) / 512;
}

static void name_of(long index, char *name, size_t size) {
    if (files)
        snprintf(name, size, "%s", files[index].name);
    else
        snprintf(name, size, "%03ld-%016lx-rw-", index + 1, 0x100000000000 + index * 8192);
}

static long find(const char *path) {
    char name[256];
    if (strcmp(path, "/") == 0)
        return -2;
    if (strcmp(path, directory) == 0)
        return -1;
    if (strncmp(path, directory, sizeof directory - 1) != 0 || path[sizeof directory - 1] != '/')
        return -3;
    if (files) {
        ENTRY *entry = hsearch((ENTRY){.key = (char *)path + sizeof directory}, FIND);
        return entry ? (struct file *)entry->data - files : -3;
    }
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
    char name[256];
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

static void read_files(const char *path) {
    char name[256];
    long size, room = 1 << 20;
    FILE *input = fopen(path, "r");
    if (input == NULL || hcreate(2 * room) == 0 || (files = calloc(room, sizeof *files)) == NULL)
        return;
    while (count < room && fscanf(input, "%ld %255s", &size, name) == 2) {
        files[count] = (struct file){size, strdup(name)};
        hsearch((ENTRY){.key = files[count].name, .data = &files[count]}, ENTER);
        count++;
    }
    fclose(input);
}

int main(int argc, char **argv) {
    if (argc == 3 && (count = atol(argv[2])) == 0)
        read_files(argv[2]);
    if (argc != 3 || count <= 0) {
        fprintf(stderr, "usage: names MOUNTPOINT COUNT|FILE\n");
        return 2;
    }
    char *arguments[] = {argv[0], "-o", "ro,default_permissions", argv[1], NULL};
    return fuse_main(4, arguments, &operations, NULL);
}
