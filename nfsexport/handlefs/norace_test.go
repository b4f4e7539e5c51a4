//go:build !race

package handlefs

const raceDetector = false
