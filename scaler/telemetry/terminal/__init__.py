"""The live view of ``forescale run`` on a terminal."""
