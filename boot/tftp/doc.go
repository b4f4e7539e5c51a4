// Package tftp answers a board's reads over TFTP (RFC 1350, 2347, 2348, 2349).
//
// A board reads in lock-step, one block of 1,468 bytes for each round trip, and
// gives a file 30 s: so a lost packet has to be missed within milliseconds. The
// wait for an answer follows what answers took so far, as TCP's does (waits).
// Transfers share a socket for each of the host's addresses, so that many boards
// cost few system calls (lane). It is on a port of its own, as RFC 1350 wants it,
// but the same one for all transfers: a client is known by its own port.
package tftp
