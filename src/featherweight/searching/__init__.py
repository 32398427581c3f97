"""Search: networks drawn from a space, the fast enough ones trained, the best found."""
