"""Private keys: where they are kept, and how they sign. Nothing else in the program touches one."""
