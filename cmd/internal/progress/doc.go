// Package progress shows how far something long is: a bar on a terminal, plain lines elsewhere.
package progress
