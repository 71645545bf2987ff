"""The dialects: what the compiler says. They know of no pass, device or runtime."""
