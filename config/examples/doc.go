// Package examples holds the commented configuration files that installations begin with.
package examples
