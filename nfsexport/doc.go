// Package nfsexport says what is exported to whom, and what was seen of it:
// values only.
package nfsexport
