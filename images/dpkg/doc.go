// Package dpkg reads the database of Debian's package manager in a root file system, and compares two of them.
package dpkg
