//! What the macros of palm accept, and what a user reads where they do not: see `tests/ui`.
