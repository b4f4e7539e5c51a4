// Package xdr reads and writes the primitives of External Data Representation (RFC 4506) over byte slices.
package xdr
