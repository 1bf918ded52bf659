// The part of NCCL that this project calls, for programs that run in the emulation (../README.md): messages between
// processes, and no sums of them.
#pragma once
#include <cuda_runtime.h>
#include <stddef.h>

#define NCCL_VERSION_CODE 21800
#define NCCL_UNIQUE_ID_BYTES 128

#ifdef __cplusplus
extern "C" {
#endif

typedef struct NcclCommunicator* ncclComm_t;
typedef struct { char internal[NCCL_UNIQUE_ID_BYTES]; } ncclUniqueId;

typedef enum {
    ncclSuccess,
    ncclSystemError,
    ncclInvalidArgument,
    ncclInvalidUsage,
    ncclRemoteError,
} ncclResult_t;

typedef enum { ncclInt8, ncclFloat } ncclDataType_t;

ncclResult_t ncclGetVersion(int* version);
ncclResult_t ncclGetUniqueId(ncclUniqueId* id);
ncclResult_t ncclCommInitRank(ncclComm_t* communicator, int size, ncclUniqueId id, int rank);
ncclResult_t ncclCommDestroy(ncclComm_t communicator);
ncclResult_t ncclCommGetAsyncError(ncclComm_t communicator, ncclResult_t* error);
const char* ncclGetErrorString(ncclResult_t error);
const char* ncclGetLastError(ncclComm_t communicator);

ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);
ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator,
                      cudaStream_t stream);
ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t communicator,
                      cudaStream_t stream);

#ifdef __cplusplus
}
#endif
