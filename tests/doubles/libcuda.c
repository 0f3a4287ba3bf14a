/* A test double of the NVIDIA driver, for machines without one. It is not a driver and never computes anything.
 *
 * It says that there is one GPU, called "test double", so that TensorFlow goes on to open its CUDA and cuDNN
 * libraries. What would use the GPU (memory, streams, kernels) is left out: TensorFlow has to fail there.
 *
 *   gcc -shared -fPIC -o libcuda.so.1 libcuda.c && cp libcuda.so.1 libnvidia-ml.so.1
 *
 * Set TEST_DOUBLE_LOG to have it say on standard error that it was asked.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_DEVICE = 101, NVML_NOT_SUPPORTED = 3 };
enum { DRIVER = 12090 }; /* CUDA 12.9: every CUDA that the locks bring runs with it */

typedef int Device;
typedef void *Context;

static Context current;

int cuInit(unsigned flags)
{
    if (getenv("TEST_DOUBLE_LOG"))
        fputs("libcuda.so.1 is a test double: no GPU is here\n", stderr);
    return SUCCESS;
}

int cuDriverGetVersion(int *version) { *version = DRIVER; return SUCCESS; }

int cuGetErrorName(int error, const char **name) { *name = "TEST_DOUBLE"; return SUCCESS; }
int cuGetErrorString(int error, const char **text) { *text = "a test double runs nothing"; return SUCCESS; }

/* The device: as an A100, which every release from 2.4 on has code for. */

int cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
int cuDeviceGet(Device *device, int ordinal) { *device = ordinal; return ordinal ? INVALID_DEVICE : SUCCESS; }
int cuDeviceGetName(char *name, int size, Device device) { snprintf(name, size, "test double"); return SUCCESS; }
int cuDeviceGetUuid(char *uuid, Device device) { memset(uuid, 7, 16); return SUCCESS; }
int cuDeviceGetUuid_v2(char *uuid, Device device) { return cuDeviceGetUuid(uuid, device); }
int cuDeviceTotalMem_v2(size_t *bytes, Device device) { *bytes = (size_t)16 << 30; return SUCCESS; }
int cuDeviceGetPCIBusId(char *id, int size, Device device) { snprintf(id, size, "0000:00:04.0"); return SUCCESS; }
int cuDeviceCanAccessPeer(int *can, Device one, Device other) { *can = 0; return SUCCESS; }

int cuDeviceComputeCapability(int *major, int *minor, Device device)
{
    *major = 8;
    *minor = 0;
    return SUCCESS;
}

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
    case 33: case 50: *value = 0; break;          /* PCI bus, PCI domain */
    case 34: *value = 4; break;                   /* PCI device */
    case 36: *value = 1215000; break;             /* memory clock, kHz */
    case 37: *value = 5120; break;                /* memory bus, bits */
    case 38: *value = 41943040; break;            /* L2 cache */
    case 39: *value = 2048; break;                /* threads of a multiprocessor */
    case 75: *value = 8; break;                   /* compute capability, major */
    case 76: *value = 0; break;                   /* and minor */
    case 81: *value = 167936; break;              /* shared memory of a multiprocessor */
    case 97: *value = 166912; break;              /* shared memory of a block that opts in */
    default: *value = 1;
    }
    return SUCCESS;
}

/* Contexts can be made and counted; nothing can be done in one. */

int cuDevicePrimaryCtxGetState(Device device, unsigned *flags, int *active) { *flags = *active = 0; return SUCCESS; }
int cuDevicePrimaryCtxRetain(Context *context, Device device) { *context = &current; return SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(Device device) { return SUCCESS; }
int cuDevicePrimaryCtxSetFlags_v2(Device device, unsigned flags) { return SUCCESS; }
int cuDevicePrimaryCtxRelease(Device device) { return SUCCESS; }
int cuDevicePrimaryCtxSetFlags(Device device, unsigned flags) { return SUCCESS; }
int cuCtxGetCurrent(Context *context) { *context = current; return SUCCESS; }
int cuCtxSetCurrent(Context context) { current = context; return SUCCESS; }
int cuCtxGetDevice(Device *device) { *device = 0; return SUCCESS; }
int cuCtxSynchronize(void) { return SUCCESS; }
int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) { *free_bytes = *total = (size_t)16 << 30; return SUCCESS; }

/* NVML: TensorFlow 2.21 asks it before it counts devices. */

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlInitWithFlags(unsigned flags) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int error) { return "a test double runs nothing"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = &current; return SUCCESS; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **device) { *device = &current; return SUCCESS; }
int nvmlSystemGetDriverVersion(char *version, unsigned size) { snprintf(version, size, "575.0"); return SUCCESS; }
int nvmlDeviceGetMaxPcieLinkGeneration(void *device, unsigned *generation) { *generation = 4; return SUCCESS; }
int nvmlDeviceGetMaxPcieLinkWidth(void *device, unsigned *width) { *width = 16; return SUCCESS; }
int nvmlDeviceGetCurrPcieLinkGeneration(void *device, unsigned *generation) { *generation = 4; return SUCCESS; }
int nvmlDeviceGetCurrPcieLinkWidth(void *device, unsigned *width) { *width = 16; return SUCCESS; }
int nvmlDeviceGetFieldValues(void *device, int count, void *values) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetGpuFabricInfoV(void *device, void *information) { return NVML_NOT_SUPPORTED; }
