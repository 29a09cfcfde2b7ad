package ingest

// Late is how far behind its arrival a reading may be; what is older is refused and counted.
const Late = maxBehind
