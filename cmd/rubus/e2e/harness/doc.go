// Package harness is what tests of the whole stand on: the programs they run, a place for their files, and waiting for what these programs do.
package harness
