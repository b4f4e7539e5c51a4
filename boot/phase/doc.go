// Package phase says what a board is doing, and whether it runs, from the times at which
// things were seen of it.
package phase
