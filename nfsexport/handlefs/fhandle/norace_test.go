//go:build !race

package fhandle

const raceDetector = false
