/* A test double of the CUDA runtime: it takes every order and computes nothing.
 *
 * Here is what TensorFlow wants a real answer from; tests/mock_gpu.py makes the other functions. As the real one it
 * stands on libcuda, so that the faults of libcuda.c reach TensorFlow through it. RUNTIME is its version.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

typedef void *Object;

enum { SUCCESS = 0, INSUFFICIENT_DRIVER = 35, NO_KERNEL_IMAGE = 209 };

static int last_error;

static void *driver(const char *function) { return dlsym(dlopen("libcuda.so.1", RTLD_LAZY), function); }
#define DRIVER(function, ...) ((int (*)())driver(function))(__VA_ARGS__)

/* From CUDA 11 on a driver runs every CUDA of its major number. */
static int is_sufficient(void)
{
    int version = 0;
    DRIVER("cuDriverGetVersion", &version);
    return last_error = version / 1000 < RUNTIME / 1000 ? INSUFFICIENT_DRIVER : SUCCESS;
}

int cudaRuntimeGetVersion(int *version) { *version = RUNTIME; return SUCCESS; }
int cudaDriverGetVersion(int *version) { return DRIVER("cuDriverGetVersion", version); }
int cudaGetDeviceCount(int *count) { DRIVER("cuDeviceGetCount", count); return is_sufficient(); }
int cudaGetDevice(int *device) { *device = 0; return is_sufficient(); }
int cudaSetDevice(int device) { return is_sufficient(); }
int cudaDeviceGetAttribute(int *value, int attribute, int device)
{
    return DRIVER("cuDeviceGetAttribute", value, attribute, device);
}

/* cudaDeviceProp: the name, 256 bytes, then numbers; TensorFlow divides by some, so none is 0. */
int cudaGetDeviceProperties(char *properties, int device)
{
    strcpy(properties, "test double");
    for (int *number = (int *)(properties + 288), count = 110; count--; number++)
        *number = 32;
    return SUCCESS;
}
int cudaGetDeviceProperties_v2(char *properties, int device) { return cudaGetDeviceProperties(properties, device); }

int cudaMalloc(void **memory, size_t bytes) { return DRIVER("cuMemAlloc_v2", memory, bytes); }
int cudaMemGetInfo(size_t *available, size_t *total) { return DRIVER("cuMemGetInfo_v2", available, total); }
int cudaMemcpy(void *to, void *from, size_t bytes, int kind) { memcpy(to, from, bytes); return SUCCESS; }
int cudaMemcpyAsync(void *to, void *from, size_t bytes, int kind, Object stream)
{
    return cudaMemcpy(to, from, bytes, kind);
}
int cudaMemsetAsync(void *to, int value, size_t bytes, Object stream) { memset(to, value, bytes); return SUCCESS; }

/* The real one loads the code of a kernel before its first launch, by the driver. */
int cudaLaunchKernel(const void *kernel)
{
    Object module;
    return last_error = DRIVER("cuModuleLoadData", &module, "\x7f" "ELF");
}
int cudaGetLastError(void) { int error = last_error; last_error = SUCCESS; return error; }
int cudaPeekAtLastError(void) { return last_error; }

/* cudaFuncAttributes: three sizes, then the most threads of a block. */
int cudaFuncGetAttributes(size_t *attributes, const void *kernel)
{
    memset(attributes, 0, 56);
    ((int *)attributes)[6] = 1024;
    return SUCCESS;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks) { *blocks = 2; return SUCCESS; }
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks) { *blocks = 2; return SUCCESS; }

const char *cudaGetErrorString(int error)
{
    switch (error) {
    case INSUFFICIENT_DRIVER: return "CUDA driver version is insufficient for CUDA runtime version";
    case NO_KERNEL_IMAGE: return "no kernel image is available for execution on the device";
    default: return "a test double runs nothing";
    }
}
