"""What ``doctor`` looks at: each step tells what it found, and the next one goes on with what there is."""
