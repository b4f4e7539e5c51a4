// Package control carries the command's requests to the daemon: JSON over HTTP on a unix socket.
package control
