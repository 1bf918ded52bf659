// The functions of attention_pointwise.h and attention_pointwise.cuh; C and C++ alike.
#pragma once

typedef enum { POINTWISE_SIGMOID, POINTWISE_RELU, POINTWISE_POLYNOMIAL } PointwiseKind;
