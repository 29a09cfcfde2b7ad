package storage

// SeriesVersion rises when an older build could not open the series folder that this one writes: another format of
// the engine's files, or a second store beside them. Open takes all older ones.
const SeriesVersion = 2
