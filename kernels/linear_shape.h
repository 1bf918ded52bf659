// The sizes of a linear layer (matmul.h, matmul.cuh) whose rows may lie apart; C and C++ alike.
#pragma once

typedef struct {
    int rows, C, OC;    // channels in and out
    int ld_inp, ld_out; // elements from one row to the next, of inp and dinp, of out and dout
} LinearShape;
