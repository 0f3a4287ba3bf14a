/* A test double of the NVIDIA driver, for machines without one. It is not a driver and never computes anything.
 *
 * It says that there is a GPU, called "test double", takes what TensorFlow copies to it, gives that back, and says that
 * kernels ran. Faults come by environment variables, so that one build serves all of them:
 *
 *   TEST_DOUBLE_<function>=802   this function answers 802; `hang`: it never answers
 *   TEST_DOUBLE_GPUS=2           number of GPUs
 *   TEST_DOUBLE_CUDA=11040       the CUDA that the driver is for
 *   TEST_DOUBLE_CAPABILITY=30    compute capability, 3.0
 *   TEST_DOUBLE_PTX=0            what comes of the check's own kernel, in PTX: 0 taken and not run, 221 no compiler for it
 *   TEST_DOUBLE_LOG=1            it says on standard error that it was asked
 *
 *   gcc -shared -fPIC -o libcuda.so.1 libcuda.c && cp libcuda.so.1 libnvidia-ml.so.1
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101, NOT_SUPPORTED = 801, NVML_NOT_SUPPORTED = 3 };
enum { MOST_GPUS = 16, DRIVER = 12090, CAPABILITY = 80 }; /* every CUDA of the locks runs with it, on an A100 */

typedef int Device;
typedef void *Object;
typedef unsigned long long Address;

static char contexts[MOST_GPUS], object;
static __thread Object current;

static int setting(const char *name, int otherwise)
{
    char variable[128];
    snprintf(variable, sizeof variable, "TEST_DOUBLE_%s", name);
    const char *value = getenv(variable);
    while (value && !strcmp(value, "hang"))
        pause();
    return value ? atoi(value) : otherwise;
}

static int gpus(void) { return setting("GPUS", 1); }
static int of(Object context) { return context ? (char *)context - contexts : 0; }

/* A function that answers its fault where one is set. */
#define FUNCTION(name, parameters, ...)               \
    int name parameters                               \
    {                                                 \
        int fault = setting(#name, SUCCESS);          \
        if (fault)                                    \
            return fault;                             \
        __VA_ARGS__;                                  \
        return SUCCESS;                               \
    }
#define DOES_NOTHING(name) FUNCTION(name, (void), )
#define GIVES_OBJECT(name) FUNCTION(name, (Object *given), *given = &object)

FUNCTION(cuInit, (unsigned flags), {
    if (getenv("TEST_DOUBLE_LOG"))
        fputs("libcuda.so.1 is a test double: no GPU is here\n", stderr);
})
FUNCTION(cuDriverGetVersion, (int *version), *version = setting("CUDA", DRIVER))

static const struct {
    int code;
    const char *name, *text;
} errors[] = {
    {34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {221, "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "PTX JIT compiler library not found"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {802, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
    {804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "forward compatibility was attempted on non supported HW"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static int describe(int code, const char **name, const char **text)
{
    for (size_t row = 0; row < sizeof errors / sizeof *errors; row++)
        if (errors[row].code == code) {
            *name = errors[row].name;
            *text = errors[row].text;
            return SUCCESS;
        }
    return INVALID_VALUE;
}

int cuGetErrorName(int error, const char **name) { const char *text; return describe(error, name, &text); }
int cuGetErrorString(int error, const char **text) { const char *name; return describe(error, &name, text); }

/* -------------------------------------------------------------------------------------------------- devices */

FUNCTION(cuDeviceGetCount, (int *count), *count = gpus())
FUNCTION(cuDeviceGet, (Device *device, int ordinal), if (ordinal >= gpus()) return INVALID_DEVICE; *device = ordinal)
FUNCTION(cuDeviceGetName, (char *name, int size, Device device), snprintf(name, size, "test double"))
FUNCTION(cuDeviceGetUuid, (char *uuid, Device device), memset(uuid, 7 + device, 16))
FUNCTION(cuDeviceGetUuid_v2, (char *uuid, Device device), memset(uuid, 7 + device, 16))
FUNCTION(cuDeviceTotalMem_v2, (size_t *bytes, Device device), *bytes = (size_t)16 << 30)
FUNCTION(cuDeviceGetPCIBusId, (char *id, int size, Device device), snprintf(id, size, "0000:%02x:04.0", device))
FUNCTION(cuDeviceCanAccessPeer, (int *can, Device one, Device other), *can = 0)
FUNCTION(cuDeviceGetP2PAttribute, (int *value, int attribute, Device one, Device other), *value = 0)

FUNCTION(cuDeviceComputeCapability, (int *major, int *minor, Device device), {
    *major = setting("CAPABILITY", CAPABILITY) / 10;
    *minor = setting("CAPABILITY", CAPABILITY) % 10;
})

int cuDeviceGetAttribute(int *value, int attribute, Device device)
{
    switch (attribute) { /* CUdevice_attribute of cuda.h */
    case 1: case 2: case 3: *value = 1024; break; /* threads of a block, and in x and y */
    case 4: *value = 64; break;                   /* in z */
    case 5: *value = 2147483647; break;           /* blocks of a grid in x */
    case 6: case 7: *value = 65535; break;        /* in y and z */
    case 8: *value = 49152; break;                /* shared memory of a block */
    case 10: *value = 32; break;                  /* threads of a warp */
    case 12: case 82: *value = 65536; break;      /* registers of a block, of a multiprocessor */
    case 13: *value = 1410000; break;             /* clock, kHz */
    case 16: *value = 108; break;                 /* multiprocessors */
    case 32: *value = 0; break;                   /* ECC */
    case 33: *value = device; break;              /* PCI bus */
    case 34: *value = 4; break;                   /* PCI device */
    case 36: *value = 1215000; break;             /* memory clock, kHz */
    case 37: *value = 5120; break;                /* memory bus, bits */
    case 38: *value = 41943040; break;            /* L2 cache */
    case 39: *value = 2048; break;                /* threads of a multiprocessor */
    case 50: *value = 0; break;                   /* PCI domain */
    case 75: *value = setting("CAPABILITY", CAPABILITY) / 10; break;
    case 76: *value = setting("CAPABILITY", CAPABILITY) % 10; break;
    case 81: *value = 167936; break;              /* shared memory of a multiprocessor */
    case 97: *value = 166912; break;              /* shared memory of a block that opts in */
    default: *value = 1;
    }
    return SUCCESS;
}

/* ------------------------------------------------------------------------------------- contexts and streams */

FUNCTION(cuDevicePrimaryCtxGetState, (Device device, unsigned *flags, int *active), *flags = *active = 0)
FUNCTION(cuDevicePrimaryCtxRetain, (Object *context, Device device), *context = &contexts[device])
FUNCTION(cuCtxGetCurrent, (Object *context), *context = current)
FUNCTION(cuCtxSetCurrent, (Object context), current = context)
FUNCTION(cuCtxGetDevice, (Device *device), *device = of(current))
FUNCTION(cuCtxGetApiVersion, (Object context, unsigned *version), *version = 3020)
FUNCTION(cuCtxGetStreamPriorityRange, (int *least, int *greatest), *least = *greatest = 0)
FUNCTION(cuCtxGetSharedMemConfig, (int *size), *size = 1)
FUNCTION(cuStreamIsCapturing, (Object stream, int *is), *is = 0)
FUNCTION(cuStreamAddCallback, (Object stream, void (*call)(Object, int, void *), void *data, unsigned flags),
         call(stream, SUCCESS, data))
FUNCTION(cuLaunchHostFunc, (Object stream, void (*call)(void *), void *data), call(data))
FUNCTION(cuEventElapsedTime, (float *milliseconds, Object start, Object end), *milliseconds = 1)
DOES_NOTHING(cuDevicePrimaryCtxRelease)
DOES_NOTHING(cuDevicePrimaryCtxRelease_v2)
DOES_NOTHING(cuDevicePrimaryCtxSetFlags)
DOES_NOTHING(cuDevicePrimaryCtxSetFlags_v2)
DOES_NOTHING(cuCtxSynchronize)
DOES_NOTHING(cuStreamSynchronize)
DOES_NOTHING(cuStreamQuery)
DOES_NOTHING(cuStreamWaitEvent)
DOES_NOTHING(cuStreamDestroy_v2)
DOES_NOTHING(cuEventRecord)
DOES_NOTHING(cuEventQuery)
DOES_NOTHING(cuEventSynchronize)
DOES_NOTHING(cuEventDestroy_v2)
GIVES_OBJECT(cuStreamCreate)
GIVES_OBJECT(cuStreamCreateWithPriority)
GIVES_OBJECT(cuEventCreate)

/* --------------------------------------------------------------------------------------------------- memory */

/* The memory of the GPU is that of the process, zeros at first. It is never given back: no check lives long. */
static int allocate(void **memory, size_t bytes)
{
    *memory = mmap(NULL, bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return *memory == MAP_FAILED ? 2 : SUCCESS;
}

FUNCTION(cuMemGetInfo_v2, (size_t *available, size_t *total), *available = *total = (size_t)16 << 30)
FUNCTION(cuMemAlloc_v2, (Address *memory, size_t bytes), return allocate((void **)memory, bytes))
FUNCTION(cuMemHostAlloc, (void **memory, size_t bytes, unsigned flags), return allocate(memory, bytes))
FUNCTION(cuMemAllocHost_v2, (void **memory, size_t bytes), return allocate(memory, bytes))
DOES_NOTHING(cuMemFree_v2)
DOES_NOTHING(cuMemFreeHost)
DOES_NOTHING(cuMemHostRegister_v2)
DOES_NOTHING(cuMemHostUnregister)
FUNCTION(cuPointerGetAttribute, (void *value, int attribute, Address memory), return INVALID_VALUE)

#define COPIES(name) FUNCTION(name, (Address to, Address from, size_t bytes), memcpy((void *)to, (void *)from, bytes))
COPIES(cuMemcpyHtoD_v2)
COPIES(cuMemcpyHtoDAsync_v2)
COPIES(cuMemcpyDtoH_v2)
COPIES(cuMemcpyDtoHAsync_v2)
COPIES(cuMemcpyDtoD_v2)
COPIES(cuMemcpyDtoDAsync_v2)

#define FILLS(name, type)                                         \
    FUNCTION(name, (Address to, type value, size_t count),        \
             for (type *at = (type *)to; count--; at++) *at = value)
FILLS(cuMemsetD8_v2, unsigned char)
FILLS(cuMemsetD8Async, unsigned char)
FILLS(cuMemsetD32_v2, unsigned)
FILLS(cuMemsetD32Async, unsigned)

/* -------------------------------------------------------------------------------------------------- kernels */

static int load(Object *module, const char *image)
{
    *module = &object;
    image += strspn(image, " \t\n");
    if (*image == '.') /* .version: PTX of the check; what compilers write begins with a comment */
        return setting("PTX", NOT_SUPPORTED);
    return setting("cuModuleLoadData", SUCCESS);
}

int cuModuleLoadData(Object *module, const char *image) { return load(module, image); }
int cuModuleLoadDataEx(Object *module, const char *image) { return load(module, image); }
int cuModuleLoadFatBinary(Object *module, const char *image) { return load(module, image); }
FUNCTION(cuFuncGetAttribute, (int *value, int attribute, Object function), *value = 32)
FUNCTION(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *blocks), *blocks = 2)
FUNCTION(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, (int *blocks), *blocks = 2)
FUNCTION(cuModuleGetGlobal_v2, (Address *memory, size_t *bytes), return allocate((void **)memory, *bytes = 65536))
GIVES_OBJECT(cuModuleGetFunction)
DOES_NOTHING(cuModuleUnload)
DOES_NOTHING(cuFuncSetAttribute)
DOES_NOTHING(cuFuncSetCacheConfig)
DOES_NOTHING(cuLaunchKernel)

/* ----------------------------------------------------------- NVML: TensorFlow 2.21 asks it before it counts */

FUNCTION(nvmlInit_v2, (void), )
FUNCTION(nvmlInitWithFlags, (unsigned flags), )
FUNCTION(nvmlShutdown, (void), )
FUNCTION(nvmlDeviceGetCount_v2, (unsigned *count), *count = gpus())
FUNCTION(nvmlDeviceGetHandleByIndex_v2, (unsigned index, Object *device), *device = &contexts[index])
FUNCTION(nvmlDeviceGetHandleByPciBusId_v2, (const char *id, Object *device), *device = &contexts[0])
FUNCTION(nvmlSystemGetDriverVersion, (char *version, unsigned size), snprintf(version, size, "575.0"))
FUNCTION(nvmlDeviceGetMaxPcieLinkGeneration, (Object device, unsigned *generation), *generation = 4)
FUNCTION(nvmlDeviceGetMaxPcieLinkWidth, (Object device, unsigned *width), *width = 16)
FUNCTION(nvmlDeviceGetCurrPcieLinkGeneration, (Object device, unsigned *generation), *generation = 4)
FUNCTION(nvmlDeviceGetCurrPcieLinkWidth, (Object device, unsigned *width), *width = 16)
int nvmlDeviceGetFieldValues(Object device, int count, void *values) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetGpuFabricInfoV(Object device, void *information) { return NVML_NOT_SUPPORTED; }

const char *nvmlErrorString(int error)
{
    switch (error) {
    case 0: return "Success";
    case 9: return "Driver Not Loaded";
    case 18: return "Driver/library version mismatch";
    default: return "a test double runs nothing";
    }
}
