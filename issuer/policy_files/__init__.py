"""Policy on disk: files into a Policy, and the one in force."""
