//go:build race

package fhandle

// raceDetector: it makes pools forget, so that allocations cannot be counted.
const raceDetector = true
