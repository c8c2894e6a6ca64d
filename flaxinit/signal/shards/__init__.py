"""Programs of devices that each hold a part of the arrays, as programs on whole arrays."""
