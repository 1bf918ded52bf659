// The rows of the parameter table by name.
#pragma once
#include "run.h"

#define ROW_CONSTANT(field, ...) ROW_##field,
enum { PARAMETER_TABLE(ROW_CONSTANT) };
