// Package simnet is a network in a box: a namespace with a bridge and an address server on it.
package simnet
