//! Programs that the macros of palm accept, and compile errors of those that they reject: see `tests/ui`.
