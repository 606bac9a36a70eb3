"""The endpoint that gives out tokens on one host: what comes in, who may ask, what goes out."""
