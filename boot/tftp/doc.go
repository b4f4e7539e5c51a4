// Package tftp answers a board's reads over TFTP (RFC 1350, 2347, 2348, 2349), through pin/tftp.
package tftp
