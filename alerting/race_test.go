//go:build race

package alerting

const raceDetector = true
