/* A test double of cuDNN: it computes nothing. tests/mock_gpu.py makes the functions that are not here.
 *
 * CUDNN is its version, RUNTIME that of the CUDA runtime that it says to be built with.
 */
#include <stddef.h>

enum { SUCCESS = 0 };

static char object;

size_t cudnnGetVersion(void) { return CUDNN; }
size_t cudnnGetCudartVersion(void) { return RUNTIME; }
int cudnnGetProperty(int part, int *value) /* MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL */
{
    int major = CUDNN >= 90000 ? 10000 : 1000;
    *value = part == 0 ? CUDNN / major : part == 1 ? CUDNN % major / 100 : CUDNN % 100;
    return SUCCESS;
}

/* A convolution needs no room of its own, and there is no engine for one. */
int cudnnGetConvolutionForwardWorkspaceSize(void *handle, void *x, void *w, void *convolution, void *y, int algorithm,
                                            size_t *bytes)
{
    *bytes = 0;
    return SUCCESS;
}
int cudnnBackendGetAttribute(void *descriptor, int name, int type, long requested, long *count, void *elements)
{
    if (count)
        *count = 0;
    return SUCCESS;
}
int cudnnBackendCreateDescriptor(int kind, void **descriptor) { *descriptor = &object; return SUCCESS; }
