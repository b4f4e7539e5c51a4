// Package batch is the record of boards that move to another version together: the first
// of them as canaries, the rest when those are good.
package batch
