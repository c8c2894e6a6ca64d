"""Primitives by what they do to the entries of arrays."""

# One entry of the result depends on one entry of each operand.
ELEMENTWISE = {
    *("abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2"),
    *("atanh", "bessel_i0e", "bessel_i1e", "bitcast_convert_type", "cbrt", "ceil"),
    *("clamp", "clz", "complex", "conj", "convert_element_type", "copy", "copy_p", "cos"),
    *("cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1"),
    *("floor", "ge", "gt", "igamma", "igammac", "imag", "integer_pow", "is_finite", "le"),
    *("lgamma", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg"),
    *("nextafter", "not", "or", "polygamma", "population_count", "pow", "real"),
    *("reduce_precision", "regularized_incomplete_beta", "rem", "round", "rsqrt"),
    *("select_n", "shift_left", "shift_right_arithmetic", "shift_right_logical", "sign"),
    *("sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor"),
    *("zeta",),
}
# Entries are moved, repeated or left out; none is changed.
MOVES = {
    *("broadcast_in_dim", "concatenate", "dynamic_slice", "expand_dims", "gather"),
    *("reshape", "rev", "slice", "split", "squeeze", "stack", "tile", "transpose", "unstack"),
}
# Results are the operands, one by one.
IDENTITIES = {
    *("copy", "copy_p", "device_put", "mesh_cast", "optimization_barrier"),
    *("reduce_precision", "sharding_constraint", "pvary", "pcast", "layout_constraint"),
}
