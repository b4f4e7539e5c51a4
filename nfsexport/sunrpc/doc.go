// Package sunrpc serves ONC RPC version 2 programs (RFC 5531) over TCP and UDP.
package sunrpc
