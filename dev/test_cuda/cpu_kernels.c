// The table of cpu_kernels.h.
#include "cpu_kernels.h"
#include "../../kernels/activation.h"
#include "../../kernels/adamw.h"
#include "../../kernels/layernorm.h"
#include "../../kernels/loss.h"
#include "../../kernels/patch_embed.h"
#include "../../kernels/prefix.h"
#include "../../kernels/rational.h"
#include "../../kernels/residual.h"

#define ENTRY(name) .name = name
const CpuKernels cpu = {
    ENTRY(activation_forward), ENTRY(activation_backward),
    ENTRY(prelu_forward), ENTRY(prelu_backward), ENTRY(prelu_scratch),
    ENTRY(rational_forward), ENTRY(rational_backward), ENTRY(rational_scratch),
    ENTRY(layernorm_forward), ENTRY(layernorm_backward), ENTRY(layernorm_scratch),
    ENTRY(residual_forward), ENTRY(residual_backward), ENTRY(residual_scratch), ENTRY(pool_forward),
    ENTRY(pool_backward),
    ENTRY(prefix_forward), ENTRY(prefix_backward),
    ENTRY(extract_patches), ENTRY(patch_embed_backward), ENTRY(patch_embed_scratch),
    ENTRY(cross_entropy_forward), ENTRY(cross_entropy_backward), ENTRY(rank_of_label),
    ENTRY(adamw_update), ENTRY(granule_squares), ENTRY(norm_of_granules),
};
