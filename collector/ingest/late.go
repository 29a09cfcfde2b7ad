package ingest

// Late is how far behind its arrival a reading may be; older ones are refused and counted.
const Late = maxBehind
