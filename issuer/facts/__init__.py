"""Where facts come from: a folder of files, feeders that call PutFacts, and AuthZEN sources asked at decision time."""
