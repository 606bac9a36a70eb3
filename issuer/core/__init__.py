"""The pure core: values in, decisions out. No I/O, no clock, no framework; import-linter holds it to that."""
