/* Test double of NVIDIA's kernel module, for NVIDIA's real libraries: preloaded, it answers what they ask of
 * /dev/nvidiactl and /dev/nvidia-uvm. It is loaded where /sys/module has it (nvidia, nvidia_uvm), is of the version that
 * stands there and refuses every other one, as the module does. It has no GPU, or, where there is a /dev/nvidia0, one
 * that does not start.
 * Numbers and structures: kernel-open/common/inc/nv-ioctl.h and ctrl0000{gpu,system}.h of open-gpu-kernel-modules. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CARD_INFO = 200, CHECK_VERSION = 210, RM_CONTROL = 0x2a, RM_ALLOC = 0x2b };
enum { BUILD_VERSION = 0x101, ATTACHED_IDS = 0x201, PROBED_IDS = 0x214, ATTACH_IDS = 0x215 };
enum { RM_INIT_ADAPTER_FAILED = 0x24, GPU = 0x100, FILES = 1024 };

struct version { uint32_t command, reply; char text[64]; };
struct card { uint32_t valid, domain; uint8_t bus, slot, function; uint16_t vendor, device; uint32_t id; };
struct alloc { uint32_t root, parent, made; };
struct control { uint32_t client, object, command, flags; uint64_t parameters; uint32_t size, status; };
struct build { uint32_t size; uint64_t driver, version, title; };

static char ours[FILES];

static void loaded(char *text)
{
    FILE *file = fopen("/sys/module/nvidia/version", "r");
    /* Not by fscanf: its symbol of a new C library is not there in the older roots that this is loaded in. */
    if (!file || !fgets(text, 64, file))
        text[0] = 0;
    text[strcspn(text, "\n")] = 0;
    if (file)
        fclose(file);
}

static int open_node(const char *path)
{
    char version[64] = "";
    loaded(version);
    int is_there = !strcmp(path, "/dev/nvidiactl") ||
                   (!strcmp(path, "/dev/nvidia-uvm") && access("/sys/module/nvidia_uvm", F_OK) == 0);
    if (!version[0] || !is_there) {
        errno = ENXIO;
        return -1;
    }
    int file = syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
    if (file >= 0 && file < FILES)
        ours[file] = 1;
    return file;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        int mode = va_arg(rest, int);                                                                                  \
        va_end(rest);                                                                                                  \
        if (!strncmp(path, "/dev/nvidia", 11))                                                                         \
            return open_node(path);                                                                                    \
        return syscall(SYS_openat, AT_FDCWD, path, flags, mode);                                                       \
    }
OPEN(open)
OPEN(open64)

int close(int file)
{
    if (file >= 0 && file < FILES)
        ours[file] = 0;
    return syscall(SYS_close, file);
}

static void control(struct control *asked)
{
    uint32_t *ids = (uint32_t *)asked->parameters;
    struct build *build = (struct build *)asked->parameters;
    if (asked->command == BUILD_VERSION && build->driver)
        loaded((char *)build->driver);
    if (asked->command == ATTACHED_IDS || asked->command == PROBED_IDS)
        memset(ids, 0xff, asked->size); /* the end of the list */
    if (asked->command == PROBED_IDS && access("/dev/nvidia0", F_OK) == 0)
        ids[0] = GPU;
    if (asked->command == ATTACH_IDS)
        asked->status = RM_INIT_ADAPTER_FAILED;
}

int ioctl(int file, unsigned long request, ...)
{
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (file < 0 || file >= FILES || !ours[file])
        return syscall(SYS_ioctl, file, request, argument);
    struct version *version = argument;
    struct card *card = argument;
    struct alloc *alloc = argument;
    char text[64] = "";
    switch (request & 0xff) {
    case CHECK_VERSION:
        loaded(text);
        version->reply = !strcmp(version->text, text);
        if (version->reply)
            return 0;
        strcpy(version->text, text);
        errno = EINVAL;
        return -1;
    case CARD_INFO:
        memset(argument, 0, request >> 16 & 0x3fff);
        if (access("/dev/nvidia0", F_OK) == 0)
            *card = (struct card){.valid = 1, .bus = 4, .vendor = 0x10de, .device = 0x20f1, .id = GPU};
        return 0;
    case RM_ALLOC:
        if (!alloc->made)
            alloc->made = 1;
        return 0;
    case RM_CONTROL:
        control(argument);
        return 0;
    }
    return 0;
}
