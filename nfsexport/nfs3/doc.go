// Package nfs3 serves the NFS version 3 program (RFC 1813) over the FS it is given.
package nfs3
