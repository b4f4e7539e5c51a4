// Package golden says which of a board's files do not belong into an image: what makes it that one board, secrets, and litter.
package golden
