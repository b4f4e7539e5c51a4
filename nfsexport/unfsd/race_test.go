//go:build race

package unfsd_test

const raceOn = true
