"""Traffic: readers, generators, descriptions and writers of request traces."""
