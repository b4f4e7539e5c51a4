// Package nfsload puts load on any NFSv3 server, and tells what came of it.
package nfsload
