"""Real guests for tests and benchmarks: QEMU with Debian's cloud kernel and a busybox."""
