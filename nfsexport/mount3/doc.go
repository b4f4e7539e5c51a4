// Package mount3 serves the MOUNT program, version 3 (RFC 1813 appendix I).
package mount3
