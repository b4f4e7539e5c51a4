//go:build race

package handlefs

// raceDetector: it makes pools forget, so that allocations cannot be counted.
const raceDetector = true
