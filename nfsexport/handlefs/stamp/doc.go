// Package stamp tells by a file's attributes whether it is still what it was.
package stamp
