// Package source opens what is imported, finds out what it is by its content, and decompresses it.
package source
