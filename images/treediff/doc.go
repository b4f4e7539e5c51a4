// Package treediff says how two trees of layers differ, name by name.
package treediff
