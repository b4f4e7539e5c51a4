// Package neigh knows who has an IPv4 address on the links of this host.
package neigh
