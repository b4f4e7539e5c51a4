// Package golden remembers what listings found in golden directories, for the other boards of
// their image.
package golden
