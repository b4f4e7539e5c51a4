// Package portmap serves the port mapper program, version 2 (RFC 1833 section 3).
package portmap
