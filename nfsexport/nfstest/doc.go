// Package nfstest is the conformance suite of a file system, mounted or called directly.
package nfstest
