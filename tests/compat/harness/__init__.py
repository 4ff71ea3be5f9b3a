"""The harness of tests/compat: the wire by hand, drivers for client libraries, targets, and how a scenario is written and run."""
