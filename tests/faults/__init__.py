"""The campaign of faults: one module a fault."""
