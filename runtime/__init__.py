"""What executes a bundle: engine, pages, tools, trace. It never needs the compiler."""
