"""The faces of the queue: embedded, HTTP, command line. They hold no behaviour of its own."""
